"""Embedding models in the admin: which serve, which were taught and how they compare, teaching and switching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from kombu.exceptions import OperationalError as BrokerError
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from catalog import broker
from catalog.curation.log import record
from catalog.embedding_models import (
    check_may_serve,
    lacking_from_images,
    lacking_from_vectors,
    previous_model,
    serving_models,
    what_is_seen,
)
from catalog.exceptions import CannotServe, ModelUnavailable
from catalog.lineage import lineage
from catalog.models import Collection, EmbeddingModel
from catalog.records import NONE, ReadOnly
from catalog.vision import registry
from search import tasks
from search.admin.switching import (
    BUSY,
    NOT_QUEUED,
    NOT_YET,
    SwitchingViews,
    check,
    may_switch,
    page,
    reports_of,
    switching_context,
)
from search.health import last_builds
from search.switching.ready import has_index, lacks_index
from search.switching.requests import fill_first, has_to_be_filled_first, switch
from search.teaching import requests
from search.teaching.errors import TeachingRefused
from search.teaching.reading import LabelSource
from search.teaching.requests import REQUESTED, Report
from search.teaching.teaching import Wish, check_enough, checked_name
from search.teaching.words import classes_of, tries

Fill = EmbeddingModel.Fill
STATE_COLOURS = {"serving": "success", "building": "info", "retired": "default"}
UPKEEP: Mapping[tuple[bool, str], str] = {
    (False, Fill.NO): NONE,
    (False, Fill.ASKED): "workers fill it",
    (False, Fill.PAUSED): "filling is paused",
    (True, Fill.NO): "the way back",
    (True, Fill.ASKED): "the way back, kept up",
    (True, Fill.PAUSED): "the way back, filling is paused",
}  # whether it is the way back, and its fill
GATE_COLOURS = {"passed": "success", "did not pass": "danger"}
AT_ONCE = 2_000  # embeddings that are computed while somebody waits for the page; more are a worker's
AT_ONCE_FROM_IMAGES = 20


class TeachForm(forms.Form):
    pipeline = forms.ChoiceField(widget=UnfoldAdminSelectWidget, help_text="Whose model is taught.")
    source = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget,
        label="From",
        choices=[
            (LabelSource.LABELS.value, "the labels of images"),
            (LabelSource.PEOPLE.value, "the people that faces are named as"),
        ],
    )
    collection = forms.ModelChoiceField(
        Collection.objects.all(), required=False, widget=UnfoldAdminSelectWidget, empty_label="All collections"
    )
    name = forms.CharField(
        required=False,
        max_length=60,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of the new model: letters, digits, hyphens. Without one it is called after its base.",
    )

    seed = forms.IntegerField(
        min_value=0,
        max_value=2**31 - 1,
        initial=0,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Another one keeps other classes and labels back.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["pipeline"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            (model.pipeline, f"{model.pipeline}: {lineage(model)[0].embedder}") for model in serving_models()
        ]

    def clean_name(self) -> str:
        try:
            return checked_name(self.cleaned_data["name"]) if self.cleaned_data["name"] else ""
        except TeachingRefused as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        said = self.cleaned_data
        if not self.errors:
            try:
                check_enough(Wish(said["pipeline"], LabelSource(said["source"]), said["collection"]))
            except TeachingRefused as error:
                raise forms.ValidationError(str(error)) from error
        return said


@admin.register(EmbeddingModel)
class EmbeddingModelAdmin(SwitchingViews, ReadOnly, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = ("name", "state_", "upkeep", "derived", "gate", "on_labels", "on_unseen")
    list_select_related = ("derived_from",)
    list_per_page = 50
    list_before_template = "admin/search/models/above_list.html"
    change_form_outer_before_template = "admin/search/models/about.html"
    fields = (
        *("pipeline", "embedder", "fingerprint", "state", "derived_from", "dimension", "licence", "source"),
        *("same_distance", "near_distance", "created_at", "retired_at"),
    )

    # --- The list -------------------------------------------------------------------------------------------------

    @display(description="state", ordering="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def state_(self, model: EmbeddingModel) -> str:
        return model.state

    @display(description="model", ordering="embedder", header=True)  # type: ignore[untyped-decorator]
    def name(self, model: EmbeddingModel) -> tuple[str, str]:
        return model.embedder, f"{model.pipeline}, {model.fingerprint[:12]}"

    @admin.display(description="upkeep")
    def upkeep(self, model: EmbeddingModel) -> str:
        """What a model is there for that does not serve."""
        return UPKEEP[model == previous_model(model.pipeline), model.fill]

    @admin.display(description="taught on", ordering="derived_from__embedder")
    def derived(self, model: EmbeddingModel) -> str:
        return NONE if model.derived_from is None else model.derived_from.embedder

    @display(description="gate", ordering="passed_gate", label=GATE_COLOURS)  # type: ignore[untyped-decorator]
    def gate(self, model: EmbeddingModel) -> str:
        return NONE if model.passed_gate is None else "passed" if model.passed_gate else "did not pass"

    @admin.display(description="P@10 where taught")
    def on_labels(self, model: EmbeddingModel) -> str:
        return _change(model, "labels")

    @admin.display(description="P@10 elsewhere")
    def on_unseen(self, model: EmbeddingModel) -> str:
        return _change(model, "unseen")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"may_teach": may_switch(request), "reports": _reports(), **(extra_context or {})}
        return super().changelist_view(request, context)  # type: ignore[no-any-return]

    # --- One of them ----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        model = self.get_object(request, object_id)
        context = {}
        if model is not None:
            builds = last_builds(model) if request.user.has_perm("search.view_indexgeneration") else []
            context = {**_about(model), "may_teach": may_switch(request), "builds": builds, **switching_context(model)}
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("teach/", wrap(self.teach_view), name="search_teach"),
            path("teach/state/", wrap(self.state_view), name="search_teach_state"),
            path("<uuid:pk>/serve/", wrap(self.serve_view), name="search_serve"),
        ]
        return [*own, *self.switching_urls(), *super().get_urls()]

    # --- Teaching -------------------------------------------------------------------------------------------------

    def teach_view(self, request: HttpRequest) -> HttpResponse:
        """Asks what to teach; POST: asks a worker to."""
        check(request)
        form = TeachForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            self._ask_to_teach(request, form.cleaned_data)
            return HttpResponseRedirect(reverse("admin:search_teach"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Teach a model",
            "opts": self.opts,
            "form": form,
            "reports": _reports(),
            "is_busy": any(each.busy for _, each in _reports()),
            "is_broker_away": broker.is_away(),
        }
        return TemplateResponse(request, "admin/search/models/teach.html", context)

    def _ask_to_teach(self, request: HttpRequest, wish: dict[str, Any]) -> None:
        pipeline, collection = wish["pipeline"], wish["collection"]
        before = requests.reported(pipeline)
        if not requests.claim(pipeline, Report(busy=REQUESTED)):
            messages.error(request, BUSY.format(pipeline=pipeline))
            return
        key = str(collection.pk) if collection else None
        try:
            tasks.teach.delay(pipeline, wish["source"], key, wish["name"], request.user.pk, seed=wish["seed"] or 0)
        except BrokerError:
            requests.report(pipeline, before or Report())
            messages.error(request, NOT_QUEUED.format(command="teach"))
            return
        where = collection or "all collections"
        model = next(each for each in serving_models() if each.pipeline == pipeline)
        record(request.user, model, f"Asked to teach it from {wish['source']} of {where}.")  # type: ignore[arg-type]
        messages.success(request, "A worker teaches as soon as one is free.")

    def state_view(self, request: HttpRequest) -> JsonResponse:
        """What changes while a worker teaches or computes."""
        check(request)
        return JsonResponse({"busy": [each.busy for _, each in _reports() if each.busy]})

    # --- Switching ------------------------------------------------------------------------------------------------

    def serve_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Asks whether this model is to serve, and says what it would change; POST: lets it."""
        check(request)
        model = get_object_or_404(EmbeddingModel.objects.select_related("derived_from"), pk=pk)
        seen, present = what_is_seen(model), _present(model.pipeline)
        if present == model:
            messages.info(request, f"{model} serves {model.pipeline} already.")
            return HttpResponseRedirect(page(model))
        try:
            check_may_serve(model)
        except CannotServe as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(page(model))
        from_images = lacking_from_images(model)
        lacking = from_images + lacking_from_vectors(model)
        takes_long = _takes_long(model, from_images, lacking)
        if request.method == "POST" and request.POST.get("instead_of", "") == (str(present.pk) if present else ""):
            self._serve(request, model, lacking, takes_long=takes_long, seen=seen)
            return HttpResponseRedirect(page(model))
        if request.method == "POST":
            messages.warning(request, NOT_YET)
        context = {
            **self.admin_site.each_context(request),
            "title": "Let this model serve?",
            "opts": self.opts,
            "model": model,
            "present": present,
            "present_p10": _both(present),
            "own_p10": _both(model),
            "lacking": lacking,
            "has_index": has_index(model),
            "builds_index": lacks_index(model, lacking),
            "in_background": takes_long,
            "is_filled_first": has_to_be_filled_first(model, from_images),
            **_about(model),
        }
        return TemplateResponse(request, "admin/search/models/serve.html", context)

    def _serve(self, request: HttpRequest, model: EmbeddingModel, lacking: int, *, takes_long: bool, seen: str) -> None:
        at_once = bool(request.POST.get("at_once")) and model == previous_model(model.pipeline)
        in_background = not at_once and takes_long
        try:
            if in_background:
                if first := fill_first(model):
                    messages.warning(request, first)
                    tasks.fill.delay()
                    return
                if not requests.claim(model.pipeline, Report(busy=REQUESTED, model=str(model.pk))):
                    messages.error(request, BUSY.format(pipeline=model.pipeline))
                    return
                tasks.serve.delay(str(model.pk), request.user.pk, seen)
                messages.success(request, f"A worker {_work(model, lacking)}; then {model} serves.")
                return
            switch(model, request.user.pk, at_once=at_once, as_seen=seen)
            messages.success(request, f"{model} serves {model.pipeline} now.")
            self._after_switch(model, lacks_some=at_once and lacking > 0)
        except BrokerError:
            requests.report(model.pipeline, Report())
            messages.warning(request, NOT_QUEUED.format(command="model serve" if in_background else "rebuild_index"))
        except (CannotServe, ModelUnavailable) as error:
            messages.error(request, str(error))

    def _after_switch(self, model: EmbeddingModel, *, lacks_some: bool) -> None:
        if lacks_some:
            tasks.fill.delay()
        if not has_index(model):
            tasks.rebuild.delay(str(model.pk))


def _takes_long(model: EmbeddingModel, from_images: int, lacking: int) -> bool:
    """Too long for who waits for the page: a moved vector takes 0.1 ms, one of an image 50, an index minutes."""
    return from_images > AT_ONCE_FROM_IMAGES or lacking > AT_ONCE or lacks_index(model, lacking)


def _work(model: EmbeddingModel, lacking: int) -> str:
    """What a worker does before it serves."""
    computes = f"computes {lacking} embedding{pluralize(lacking)}" if lacking else ""
    return " and ".join(filter(None, [computes, "builds its index" if lacks_index(model, lacking) else ""]))


def _present(pipeline: str) -> EmbeddingModel | None:
    return EmbeddingModel.objects.filter(pipeline=pipeline, state=EmbeddingModel.State.SERVING).first()


def _reports() -> list[tuple[str, Report]]:
    return [each for name in registry.pipelines() for each in reports_of(name)]


def _change(model: EmbeddingModel, side: str) -> str:
    figures = model.teaching.get(side)
    return NONE if not figures else f"{figures['before']['p10']:.3f} → {figures['after']['p10']:.3f}"


def _both(model: EmbeddingModel | None) -> list[str]:
    """P@10 before and after, where it was taught and elsewhere; empty where there is nothing of it."""
    return [_change(model, side) for side in ("labels", "unseen")] if model is not None and model.teaching else []


def _about(model: EmbeddingModel) -> dict[str, Any]:
    """What the pages of one model show beside its fields."""
    teaching = model.teaching
    sides = [
        {"name": name, **teaching[key]}
        for key, name in (("labels", "Held-out examples"), ("unseen", "Classes never seen"))
        if key in teaching
    ]
    trouble = ""
    try:
        check_may_serve(model)
    except CannotServe as error:
        trouble = str(error) if model.passed_gate is not False else ""
    return {
        "model": model,
        "teaching": teaching,
        "sides": sides,
        "tries": tries(model) if teaching else "",
        "classes": classes_of(teaching) if teaching else [],
        "trouble": trouble,
        "may_serve": not trouble and model.passed_gate is not False and model.state != EmbeddingModel.State.SERVING,
        "is_way_back": model == previous_model(model.pipeline),
    }
