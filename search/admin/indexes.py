"""Search in the admin: how it is, what serves, and what was built. Records are read only."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin import RelatedOnlyFieldListFilter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from kombu.exceptions import OperationalError as BrokerError
from unfold.admin import ModelAdmin
from unfold.decorators import display

from catalog import broker, workers
from catalog.curation.log import record
from catalog.models import EmbeddingModel
from catalog.records import NONE, ReadOnly, moment
from catalog.vision import providers, registry
from search import progress, tasks
from search.curves import curve_of, is_read_whole
from search.health import builds_as_json, health
from search.models import IndexGeneration

NOT_QUEUED = (
    "Redis does not answer, so no worker hears of it. Start Redis and try again, or run `manage.py rebuild_index` "
    "where the indexes are."
)
GENERATION_COLOURS = {"published": "success", "failed": "danger", "building": "info", "superseded": "default"}


@admin.register(IndexGeneration)
class IndexGenerationAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = ("name", "model_", "state", "count", "size", "recall_at_10", "seconds", "began", "reason")
    list_filter = ("embedding_model__pipeline", ("embedding_model", RelatedOnlyFieldListFilter), "status")
    list_select_related = ("embedding_model",)
    list_per_page = 50
    change_form_outer_before_template = "admin/search/generations/about.html"
    fields = (
        *("embedding_model", "name", "engine", "status", "reason", "count", "size", "highest_embedding_id"),
        *("created_at", "published_at"),
    )

    @admin.display(description="model", ordering="embedding_model__pipeline")
    def model_(self, generation: IndexGeneration) -> str:
        return f"{generation.embedding_model.pipeline}: {generation.embedding_model}"

    @admin.display(description="size", ordering="bytes")
    def size(self, generation: IndexGeneration) -> str:
        return NONE if generation.bytes is None else filesizeformat(generation.bytes)

    @display(description="status", ordering="status", label=GENERATION_COLOURS)  # type: ignore[untyped-decorator]
    def state(self, generation: IndexGeneration) -> str:
        return generation.status

    @admin.display(description="recall@10", ordering="recall")
    def recall_at_10(self, generation: IndexGeneration) -> str:
        return NONE if generation.recall is None else f"{generation.recall:.4f}"

    @admin.display(description="took", ordering="build_seconds")
    def seconds(self, generation: IndexGeneration) -> str:
        return NONE if generation.build_seconds is None else f"{generation.build_seconds:.1f} s"

    @admin.display(description="began", ordering="sequence")
    def began(self, generation: IndexGeneration) -> SafeString:
        return moment(generation.created_at)

    # --- One of them ------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        generation = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if generation is not None:
            context = {
                "generation": generation,
                "curve": curve_of(generation),
                "is_read_whole": is_read_whole(generation),
            }
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    # --- The page of search health --------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("health/", wrap(self.health_view), name="search_health"),
            path("health/state/", wrap(self.state_view), name="search_health_state"),
            path("health/rebuild/<uuid:pk>/", wrap(self.rebuild_view), name="search_rebuild"),
        ]
        return [*own, *super().get_urls()]

    def health_view(self, request: HttpRequest) -> HttpResponse:
        self._check(request)
        states = health()
        context = {
            **self.admin_site.each_context(request),
            "title": "Search health",
            "states": states,
            "workers": workers.reports(),
            "runs_on_here": providers.in_use(),
            "providers_asked_for": registry.providers_asked_for(),
            "is_busy": any(state.running for state in states),
            "may_rebuild": may_rebuild(request),
            "is_broker_away": broker.is_away(),
        }
        return TemplateResponse(request, "admin/search/health.html", context)

    def state_view(self, request: HttpRequest) -> JsonResponse:
        """What changes while an index is built."""
        self._check(request)
        return JsonResponse({"pipelines": builds_as_json()})

    def rebuild_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: ask a worker to build the index of this model now, whether it is due or not."""
        if not may_rebuild(request):
            raise PermissionDenied
        if request.method != "POST":  # a login on the way makes it a GET
            messages.info(request, "Nothing was asked for yet. Press “Rebuild now” again.")
            return HttpResponseRedirect(reverse("admin:search_health"))
        model = get_object_or_404(EmbeddingModel, pk=pk, state=EmbeddingModel.State.SERVING)
        progress.report(model, progress.BuildProgress(progress.REQUESTED), progress.REQUEST_SECONDS)
        try:
            tasks.rebuild.delay(str(model.pk))
        except BrokerError:
            progress.forget(model)
            messages.error(request, NOT_QUEUED)
        else:
            record(request.user, model, "Asked for a rebuild of its index.")  # type: ignore[arg-type]  # logged in
            messages.success(request, f"A worker builds the index of {model.pipeline!r} as soon as one is free.")
        return HttpResponseRedirect(reverse("admin:search_health"))

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def may_rebuild(request: HttpRequest) -> bool:
    """Whoever may change generations makes new ones; of this permission there is no other use."""
    return request.user.has_perm("search.change_indexgeneration")
