"""What is done with a job from its page: pause, resume, cancel and retry, and its lines as a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from catalog.admin.base import NOTHING_DONE, CatalogAdmin, user_of
from catalog.api.job_serializers import csv_response
from catalog.intake import deleting, jobs
from catalog.intake.errors import JobError
from catalog.job_overview import files_wait
from catalog.models import Collection, IntakeJob


@dataclass(frozen=True, slots=True)
class Action:
    """``words``: of its button. ``carry_out``: returns what to tell, and raises JobError. ``question``: a template of
    the page in between, where there is one. ``needs``: a permission besides that for all of them."""

    words: str
    carry_out: Callable[[IntakeJob, User], str]
    question: str = ""
    needs: str = "add_intakejob"

    @property
    def is_asked_first(self) -> bool:
        return bool(self.question)


def _pause(job: IntakeJob, user: User) -> str:
    jobs.pause(job, user)
    return "Paused. What is under way comes to its end; nothing more is begun until somebody resumes it."


def _resume(job: IntakeJob, user: User) -> str:
    jobs.resume(job, user)
    return "It goes on."


def _cancel(job: IntakeJob, user: User) -> str:
    jobs.cancel(job, user)
    return "Cancelled. What was stored stays. What was not begun can be taken up again by “Retry failed”."


def _retry(job: IntakeJob, user: User) -> str:
    count = jobs.retry_failed(job, user)
    if not count:
        return "There was nothing to try again. What came with a form or a request has to be sent once more."
    job.refresh_from_db(fields=["state"])
    return f"{count} line{pluralize(count)} {pluralize(count, 'is,are')} tried again. {files_wait(job)}".strip()


def _delete(job: IntakeJob, user: User) -> str:
    deleting.delete(job, user)
    return "Deleted. The images that it put in are kept."


ACTIONS = {
    "pause": Action("Pause", _pause),
    "resume": Action("Resume", _resume),
    "retry": Action("Retry failed", _retry),
    "cancel": Action("Cancel", _cancel, question="admin/catalog/jobs/cancel.html"),
    "delete": Action("Delete", _delete, question="admin/catalog/jobs/delete.html", needs="delete_intakejob"),
}


def may_run_jobs(request: HttpRequest) -> bool:
    """Those of the collections that the user edits."""
    return request.user.has_perm("catalog.add_intakejob")


def actions_for(request: HttpRequest) -> dict[str, Action]:
    """Those that this user may take, by name."""
    if not may_run_jobs(request):
        return {}
    return {name: each for name, each in ACTIONS.items() if request.user.has_perm(f"catalog.{each.needs}")}


def job_url(pk: UUID) -> str:
    return reverse("admin:catalog_intakejob_change", args=[pk])


def jobs_for(request: HttpRequest) -> QuerySet[IntakeJob]:
    """Those that this user may see."""
    mine = Collection.objects.editable_by(request.user)
    return IntakeJob.objects.filter(collection__in=mine).select_related("collection", "started_by")


class JobActions(CatalogAdmin):
    """Every change by POST, some after a page in between; a GET, as after a login on the way, changes nothing."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/do/<slug:action>/", wrap(self.action_view), name="catalog_intakejob_do"),
            path("<uuid:pk>/lines.csv", wrap(self.csv_view), name="catalog_intakejob_csv"),
        ]
        return [*own, *super().get_urls()]

    def action_view(self, request: HttpRequest, pk: UUID, action: str) -> HttpResponse:
        job = self.job_for(request, pk)
        if action not in ACTIONS:
            raise Http404(f"A job knows {', '.join(ACTIONS)}.")
        wanted = actions_for(request).get(action)
        if wanted is None:
            raise PermissionDenied
        if request.method != "POST":
            return self._ask(request, job, wanted) if wanted.is_asked_first else _nothing(request, job)
        try:
            messages.success(request, wanted.carry_out(job, user_of(request)))
        except JobError as error:
            messages.error(request, str(error))
        return HttpResponseRedirect(job_url(job.pk) if jobs_for(request).filter(pk=job.pk).exists() else _all_jobs())

    def csv_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        return csv_response(self.job_for(request, pk), request.user)

    def job_for(self, request: HttpRequest, pk: UUID) -> IntakeJob:
        """Raises PermissionDenied, and Http404 for what this user may not see."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(jobs_for(request), pk=pk)

    def _ask(self, request: HttpRequest, job: IntakeJob, action: Action) -> TemplateResponse:
        title = f"{action.words} this job?"
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "job": job}
        return TemplateResponse(request, action.question, {**context, "count": job.lines.count()})


def _all_jobs() -> str:
    return reverse("admin:catalog_intakejob_changelist")


def _nothing(request: HttpRequest, job: IntakeJob) -> HttpResponse:
    messages.info(request, NOTHING_DONE)
    return HttpResponseRedirect(job_url(job.pk))
