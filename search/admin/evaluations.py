"""Evaluations in the admin: of a collection on request, what they measured, and thresholds taken from them."""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied
from django.db.models import QuerySet
from django.db.models.fields.json import KT
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from kombu.exceptions import OperationalError as BrokerError
from unfold.admin import ModelAdmin
from unfold.decorators import display

from catalog import broker
from catalog.curation.log import record
from catalog.embedding_models import serving_models
from catalog.models import Collection
from catalog.records import NONE, ReadOnly, moment
from search import progress, tasks
from search.evaluation import people, requests, shown
from search.evaluation.by_label import rows_by_label
from search.evaluation.preview import Limits, NotThresholds, Preview, preview, proposal
from search.evaluation.records import CannotAdopt, adopt, is_of_another_metric, limits_of, why_not
from search.models import EvaluationRun

NOT_QUEUED = (
    "Redis does not answer, so no worker hears of it. Start Redis and try again, or run "
    "`manage.py evaluate --collection`."
)
LISTED = {
    "p1": "retrieval__precision_at__1",
    "mean": "retrieval__mean_average_precision",
    "area": "verification__auc",
}
RUN_COLOURS = {"done": "success", "failed": "danger"}
MISTAKES_SHOWN = 24
STEPS = 400  # of a slider


class LimitsForm(forms.Form):
    """*same* and *near*; ``limits`` once it is valid."""

    same = forms.FloatField(min_value=0, widget=forms.NumberInput(attrs={"class": "vs-input", "step": "any"}))
    near = forms.FloatField(min_value=0, widget=forms.NumberInput(attrs={"class": "vs-input", "step": "any"}))
    limits: Limits

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            try:
                self.limits = Limits(self.cleaned_data["same"], self.cleaned_data["near"])
            except NotThresholds as error:
                raise forms.ValidationError(str(error)) from error
        return self.cleaned_data


@admin.register(EvaluationRun)
class EvaluationRunAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = ("began", "what", "pipeline", "model_", "state", "p_at_1", "mean_ap", "auc", "by")
    list_display_links = ("began", "what")
    list_per_page = 50

    def has_view_permission(self, request: HttpRequest, obj: EvaluationRun | None = None) -> bool:
        """Whoever may look at collections here sees the runs of theirs (get_queryset)."""
        return request.user.has_perm("catalog.view_collection")

    def has_delete_permission(self, request: HttpRequest, obj: EvaluationRun | None = None) -> bool:
        """A run names images, which may have to go."""
        return may_adopt(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[EvaluationRun]:
        """Figures are large, and a list needs three of them."""
        runs = shown.runs_of(request.user).defer("drawings", "figures")
        return runs.annotate(**{name: KT(f"figures__{path_}") for name, path_ in LISTED.items()})

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        raise Http404(f"There is no evaluation {object_id}, or you may not see it.")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("collection/<uuid:pk>/", wrap(self.collection_view), name="search_evaluate"),
            path("collection/<uuid:pk>/state/", wrap(self.state_view), name="search_evaluate_state"),
            path("<uuid:pk>/drawing/<slug:action>.svg", wrap(self.drawing_view), name="search_evaluation_drawing"),
            path("<uuid:pk>/preview/", wrap(self.preview_view), name="search_evaluation_preview"),
            path("<uuid:pk>/thresholds/", wrap(self.thresholds_view), name="search_evaluation_thresholds"),
        ]
        return [*own, *super().get_urls()]

    # --- The list -------------------------------------------------------------------------------------------------

    @admin.display(description="began", ordering="id")
    def began(self, run: EvaluationRun) -> SafeString:
        return moment(run.created_at)

    @admin.display(description="pipeline", ordering="embedding_model__pipeline")
    def pipeline(self, run: EvaluationRun) -> str:
        return run.embedding_model.pipeline

    @admin.display(description="model")
    def model_(self, run: EvaluationRun) -> str:
        return str(run.embedding_model)

    @display(description="status", ordering="status", label=RUN_COLOURS)  # type: ignore[untyped-decorator]
    def state(self, run: EvaluationRun) -> str:
        return run.status

    @admin.display(description="P@1")
    def p_at_1(self, run: EvaluationRun) -> str:
        return _figure(run.p1)  # type: ignore[attr-defined]  # annotated, as the next ones

    @admin.display(description="mAP")
    def mean_ap(self, run: EvaluationRun) -> str:
        return _figure(run.mean)  # type: ignore[attr-defined]

    @admin.display(description="ROC AUC")
    def auc(self, run: EvaluationRun) -> str:
        return _figure(run.area)  # type: ignore[attr-defined]

    @admin.display(description="by")
    def by(self, run: EvaluationRun) -> str:
        return str(run.user or NONE)

    # --- A run ----------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self._run(request, object_id)
        if run.status == EvaluationRun.Status.DONE:
            run.figures = people.with_names(run.figures)  # for showing, never saved
        context = {
            **self.admin_site.each_context(request),
            "title": f"Evaluation of {run.what}",
            "opts": self.opts,
            "original": run,
            "run": run,
            "model": run.embedding_model,
            "may_delete": self.has_delete_permission(request, run),
        }
        if run.status == EvaluationRun.Status.DONE:
            context |= {
                **_limits_context(request, run),
                "tiles": shown.figures_in_words(run),
                "labels": rows_by_label(run.figures),
                "mistakes": shown.mistakes_of(run, request.user, MISTAKES_SHOWN),
                "examples": shown.examples_of(run, request.user),
                "places": [place for place in (run.figures["catalogue"], run.figures["queries"]) if place],
            }
        return TemplateResponse(request, "admin/search/evaluations/run.html", context)

    def drawing_view(self, request: HttpRequest, pk: UUID, action: str) -> HttpResponse:
        drawn = self._run(request, str(pk)).drawings.get(action)
        if drawn is None:
            raise Http404("There is no such figure.")
        return HttpResponse(drawn, content_type="image/svg+xml")

    def preview_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """What other thresholds would do, alone, for the script of the page; without it the page itself shows it."""
        run = self._run(request, str(pk))
        if run.status != EvaluationRun.Status.DONE:
            raise Http404("This evaluation failed.")
        return TemplateResponse(request, "admin/search/evaluations/preview.html", _limits_context(request, run))

    def thresholds_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: make these the thresholds of the run's model."""
        run = self._run(request, str(pk))
        if not may_adopt(request):
            raise PermissionDenied
        page = HttpResponseRedirect(reverse("admin:search_evaluationrun_change", args=[run.pk]))
        if request.method != "POST":  # a login on the way makes it a GET
            messages.info(request, "Nothing was changed. Press the button once more.")
            return page
        form = LimitsForm(request.POST)
        if not form.is_valid():
            messages.error(request, f"Nothing was changed: {_said(form)}")
            return page
        try:
            model = adopt(run, form.limits, _user(request))
        except CannotAdopt as error:
            messages.error(request, f"Nothing was changed: {error}")
        else:
            limits = f"same is {model.same_distance:g} now, near {model.near_distance:g}"
            messages.success(request, f"{model}: {limits}. Every search uses them from now on.")
        return page

    def _run(self, request: HttpRequest, key: str) -> EvaluationRun:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(shown.runs_of(request.user), pk=shown.uuid_of(key))

    # --- A collection ---------------------------------------------------------------------------------------------

    def collection_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """GET: the runs of a collection. POST: ask a worker for another, by the pipeline in the form."""
        collection = self._collection(request, pk)
        models = [model for model in serving_models() if model.pipeline in collection.pipelines]
        if request.method == "POST":
            if not may_evaluate(request):
                raise PermissionDenied
            return _ask_for(request, collection, [model.pipeline for model in models])
        states = [{"model": model, "running": requests.running(collection, model.pipeline)} for model in models]
        context = {
            **self.admin_site.each_context(request),
            "title": f"How well {collection} is found",
            "opts": self.opts,
            "collection": collection,
            "states": states,
            "is_busy": any(state["running"] for state in states),
            "runs": self.get_queryset(request).filter(collection=collection)[:20],
            "may_evaluate": may_evaluate(request),
            "is_broker_away": broker.is_away(),
        }
        return TemplateResponse(request, "admin/search/evaluations/collection.html", context)

    def state_view(self, request: HttpRequest, pk: UUID) -> JsonResponse:
        """What changes while an evaluation is made."""
        collection = self._collection(request, pk)
        running = {name: requests.running(collection, name) for name in collection.pipelines}
        states = [{"pipeline": name, "running": progress.as_json(said)} for name, said in running.items()]
        return JsonResponse({"pipelines": states})

    def _collection(self, request: HttpRequest, pk: UUID) -> Collection:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Collection.objects.editable_by(request.user), pk=pk)


def may_evaluate(request: HttpRequest) -> bool:
    """It takes a worker's time, so looking at a collection is not enough."""
    return request.user.has_perm("catalog.change_collection")


def may_adopt(request: HttpRequest) -> bool:
    """It changes what everybody finds, in all collections."""
    return bool(request.user.is_superuser)


def _ask_for(request: HttpRequest, collection: Collection, pipelines: list[str]) -> HttpResponse:
    page = HttpResponseRedirect(reverse("admin:search_evaluate", args=[collection.pk]))
    pipeline = request.POST.get("pipeline", "")
    if pipeline not in pipelines:
        messages.error(request, "No embedding model serves this pipeline here, so there is nothing to evaluate.")
        return page
    about = requests.subject(collection.pk, pipeline)
    if not progress.claim(about, progress.BuildProgress(progress.REQUESTED)):
        messages.info(request, f"An evaluation of {pipeline!r} is under way already; nothing more was asked for.")
        return page
    try:
        tasks.evaluate.delay(str(collection.pk), pipeline, _user(request).pk)
    except BrokerError:
        progress.forget(about)
        messages.error(request, NOT_QUEUED)
    else:
        record(_user(request), collection, f"Asked for an evaluation of {pipeline}.")
        messages.success(request, f"A worker evaluates {pipeline!r} of {collection} as soon as one is free.")
    return page


def _limits_context(request: HttpRequest, run: EvaluationRun) -> dict[str, Any]:
    """The form of thresholds and what they would do: those asked for, else those of the run, else the present ones."""
    if is_of_another_metric(run):
        return {"run": run, "refusal": why_not(run), "now": None, "chosen": None}
    now, chosen = limits_of(run.embedding_model, run.figures["metric"]), proposal(run.figures)
    asked = LimitsForm(request.GET) if "same" in request.GET or "near" in request.GET else None
    seen = _preview_of(run, now, asked, chosen or now)
    start = seen.limits if seen else None
    last = run.figures["verification"]["curve"]["distances"][-1]
    return {
        "run": run,
        "form": asked or LimitsForm(initial={"same": start.same, "near": start.near} if start else None),
        "preview": seen,
        "now": now,
        "chosen": chosen,
        "last": last,
        "step": last / STEPS,
        "may_adopt": may_adopt(request),
        "refusal": why_not(run),
        "trouble": _said(asked) if asked is not None and not asked.is_valid() else "",
    }


def _preview_of(
    run: EvaluationRun, now: Limits | None, asked: LimitsForm | None, other: Limits | None
) -> Preview | None:
    if asked is None:
        return preview(run.figures, now, other) if other else None
    return preview(run.figures, now, asked.limits) if asked.is_valid() else None


def _said(form: forms.Form) -> str:
    return " ".join(
        str(error) if field == NON_FIELD_ERRORS else f"{field}: {error}"
        for field, some in form.errors.items()
        for error in some
    )


def _figure(text: str | None) -> str:
    return NONE if text is None else f"{float(text):.4f}"


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # of requests that have passed the admin's own door
    return request.user
