"""A model's page in the admin: how ready it is, filling it, comparing it, retiring and dropping it."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from kombu.exceptions import OperationalError as BrokerError

from catalog.exceptions import CannotServe
from catalog.models import Collection, EmbeddingModel
from search import progress, tasks
from search.health import build_of
from search.progress import REQUESTED
from search.switching import background, comparing, removal
from search.switching.ready import Ready, ready
from search.teaching import requests
from search.teaching.requests import Report, log

NOT_QUEUED = "Redis does not answer, so no worker hears of it. Start Redis and try again, or run `manage.py {command}`."
BUSY = "A worker is asked to teach, compare or switch {pipeline} already. Wait until that has ended."
NOT_YET = "Nothing was changed. Look at it once more, and press the button."
DROPPED_AT_ONCE = 20_000  # embeddings that are deleted while somebody waits for the page; more are a worker's

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill


def may_switch(request: HttpRequest) -> bool:
    """What everybody's searches answer with is for superusers alone to change."""
    return bool(request.user.is_active and request.user.is_superuser)


def check(request: HttpRequest) -> None:
    """Raises PermissionDenied."""
    if not may_switch(request):
        raise PermissionDenied


def page(model: EmbeddingModel) -> str:
    return reverse("admin:catalog_embeddingmodel_change", args=[model.pk])


class SwitchingViews:
    """Mixin for the admin of embedding models. Everything is asked by POST, of superusers."""

    admin_site: AdminSite
    opts: ClassVar[Any]

    def switching_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<uuid:pk>/state/", wrap(self.fill_state_view), name="search_fill_state"),
            path("<uuid:pk>/fill/", wrap(self.fill_view), name="search_fill"),
            path("<uuid:pk>/pause/", wrap(self.pause_view), name="search_fill_pause"),
            path("<uuid:pk>/compare/", wrap(self.compare_view), name="search_compare"),
            path("<uuid:pk>/retire/", wrap(self.retire_view), name="search_retire"),
            path("<uuid:pk>/drop/", wrap(self.drop_view), name="search_drop"),
        ]

    def fill_state_view(self, request: HttpRequest, pk: UUID) -> JsonResponse:
        """What workers are at for it, in the order of the page; nothing where none is at anything."""
        check(request)
        return JsonResponse({"busy": _busy(get_object_or_404(EmbeddingModel, pk=pk))})

    def fill_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        model = self._asked(request, pk)
        if model is None:
            return self._nothing(request, pk)
        if model.state == State.SERVING:
            messages.info(request, f"{model} serves {model.pipeline}: uploads fill it.")
            return HttpResponseRedirect(page(model))
        try:
            background.ask(model)
            log(_user(request), model, "Asked workers to compute what it lacks.")
            tasks.fill.delay()
            messages.success(request, "Workers compute what it lacks, after the images that are put in.")
        except CannotServe as error:
            messages.error(request, str(error))
        except BrokerError:
            messages.warning(request, "Redis does not answer: workers begin when beat asks them.")
        return HttpResponseRedirect(page(model))

    def pause_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        model = self._asked(request, pk)
        if model is None:
            return self._nothing(request, pk)
        if background.pause(model):
            log(_user(request), model, "Paused computing what it lacks.")
            messages.success(request, "Nothing more is computed for it until somebody goes on.")
        else:
            messages.info(request, "Nothing was being computed for it.")
        return HttpResponseRedirect(page(model))

    def compare_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Asks a worker to evaluate it and the one that serves on the images of a collection."""
        model = self._asked(request, pk)
        if model is None:
            return self._nothing(request, pk)
        key = request.POST.get("collection", "")
        collection = next((each for each in _collections(model) if str(each.pk) == key), None)
        if collection is None:
            messages.error(request, "Choose a collection that runs this pipeline.")
            return HttpResponseRedirect(page(model))
        arguments = (str(model.pk), str(collection.pk), _user(request))
        if _queued(request, model, tasks.compare, arguments, "model compare"):
            log(_user(request), model, f"Asked for a comparison on {collection}.")
            messages.success(request, f"A worker compares it with the one that serves, on {collection}.")
        return HttpResponseRedirect(page(model))

    def retire_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        model = self._asked(request, pk)
        if model is None:
            return self._nothing(request, pk)
        try:
            removal.retire(model, _user(request))
            messages.success(request, f"{model} is retired. It keeps what it has, and nothing more is computed for it.")
        except removal.CannotRemove as error:
            messages.error(request, str(error))
        return HttpResponseRedirect(page(model))

    def drop_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Asks whether it is to go, and says what goes with it; POST with its name: lets it."""
        check(request)
        model = get_object_or_404(EmbeddingModel, pk=pk)
        try:
            loss = removal.loss_of(model)
        except removal.CannotRemove as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(page(model))
        if request.method == "POST":
            if request.POST.get("name", "").strip() == str(model):
                return self._drop(request, loss)
            messages.warning(request, f"Nothing was deleted. Type {model} to drop it.")
        context = {
            **self.admin_site.each_context(request),
            "title": "Drop this model?",
            "opts": self.opts,
            "model": model,
            "loss": loss,
        }
        return TemplateResponse(request, "admin/search/models/drop.html", context)

    def _drop(self, request: HttpRequest, loss: removal.Loss) -> HttpResponse:
        model, force = loss.model, bool(request.POST.get("force"))
        if loss.objections and not force:
            messages.error(request, f"Nothing was deleted. {' '.join(loss.objections)}")
            return HttpResponseRedirect(reverse("admin:search_drop", args=[model.pk]))
        if loss.embeddings > DROPPED_AT_ONCE:
            if _queued(request, model, tasks.drop, (str(model.pk), _user(request)), "model drop", force=force):
                messages.success(
                    request, f"A worker deletes {loss.embeddings} embeddings of {model}, and then the rest."
                )
            return HttpResponseRedirect(page(model))
        try:
            removal.drop(model, _user(request), force=force)
        except removal.CannotRemove as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(page(model))
        messages.success(request, f"{model} is dropped, with {loss.embeddings} embeddings.")
        return HttpResponseRedirect(reverse("admin:catalog_embeddingmodel_changelist"))

    def _asked(self, request: HttpRequest, pk: UUID) -> EmbeddingModel | None:
        """The model, where it was asked for by POST: a login on the way makes it a GET, which changes nothing."""
        check(request)
        model = get_object_or_404(EmbeddingModel, pk=pk)
        return model if request.method == "POST" else None

    def _nothing(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        messages.info(request, NOT_YET)
        return HttpResponseRedirect(reverse("admin:catalog_embeddingmodel_change", args=[pk]))


def _busy(model: EmbeddingModel) -> list[str]:
    """What somebody asked of its pipeline, its filling, the build of its index: those that are under way."""
    report = requests.reported(model.pipeline)
    return [each for each in (report.busy if report else "", _filling(model), _building(model)) if each]


def _filling(model: EmbeddingModel) -> str:
    said = progress.reported(background.subject(model)) if model.fill == Fill.ASKED else None
    return f"{said.step}, {said.done} of {said.total}" if said else ""


def _building(model: EmbeddingModel) -> str:
    said = build_of(model)
    if said is None:
        return ""
    return ", ".join(filter(None, [said.step, f"{said.done} of {said.total}" if said.total else "", said.left]))


def switching_context(model: EmbeddingModel) -> dict[str, Any]:
    """What a model's page shows of its way to serve and back."""
    state = ready(model)
    pair = comparing.latest_pair(model)
    return {
        "ready": state,
        "reports": reports_of(model.pipeline),
        "model_key": str(model.pk),
        "is_followed": bool(_busy(model)),
        "is_filled_now": bool(_filling(model)),
        "building": _building(model),
        "may_fill": _may_fill(state),
        "pair": pair,
        "pair_lines": comparing.lines(pair) if pair else [],
        "collections": _collections(model) if model.state != State.SERVING else [],
    }


def reports_of(pipeline: str) -> list[tuple[str, Report]]:
    """The pipeline and what is said of it, where something is."""
    report = requests.reported(pipeline)
    return [(pipeline, report)] if report is not None and (report.busy or report.said) else []


def _may_fill(state: Ready) -> bool:
    model = state.model
    if model.state == State.SERVING or state.trouble:
        return False
    return model.fill != Fill.ASKED or bool(state.standing.failed)


def _collections(model: EmbeddingModel) -> QuerySet[Collection]:
    return Collection.objects.filter(pipelines__contains=[model.pipeline])


def _queued(
    request: HttpRequest, model: EmbeddingModel, task: Any, arguments: tuple[Any, ...], command: str, **options: Any
) -> bool:
    """Whether a worker was asked; else the message says why not."""
    before = requests.reported(model.pipeline)
    if not requests.claim(model.pipeline, Report(busy=REQUESTED, model=str(model.pk))):
        messages.error(request, BUSY.format(pipeline=model.pipeline))
        return False
    try:
        task.delay(*arguments, **options)
    except BrokerError:
        requests.report(model.pipeline, before or Report())
        messages.error(request, NOT_QUEUED.format(command=command))
        return False
    return True


def _user(request: HttpRequest) -> int:
    assert isinstance(request.user, User)  # of requests that have passed the admin's own door
    return request.user.pk
