"""Jobs: what became of every file that was put in. Records of nobody's hand; the pages follow by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.views import ChangeList

from catalog import queues
from catalog.admin.base import user_of, uuid_of
from catalog.admin.filters import CollectionFilter, JobStateFilter
from catalog.admin.job_actions import JobActions, actions_for, job_url, jobs_for, may_run_jobs
from catalog.admin.job_lists import JobLists
from catalog.admin.lines import progress_row, rows
from catalog.duplicates.of_lines import with_choices
from catalog.job_overview import recent_failures, state_of_job, waiting
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.overview import count_lines
from catalog.records import NONE, ReadOnly, moment
from catalog.vision.normalising import LONGEST, SQUARE

LINES_PER_PAGE = 100
YOUNG = timedelta(minutes=10)  # for so long more files may come, also while nothing waits
ASKED_AT_ONCE = 50  # ids in one address, which servers cut at 4 KB
FAILURES_SHOWN = 10
SHOWN = {
    "waiting": "waiting",
    "stored": "stored",
    "duplicate": "already here",
    "refused": "refused",
    "failed": "failed",
    "cancelled": "cancelled",
}
STATE_COLOURS = {"running": "info", "paused": "warning", "cancelled": "default", "finished": "success"}


class CountedJobs(ChangeList):  # type: ignore[misc]
    """Counts the lines of the jobs on its page alone."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: list[IntakeJob] = list(self.result_list)
        count_lines(self.result_list)


@admin.register(IntakeJob)
class IntakeJobAdmin(ReadOnly, JobLists, JobActions):
    list_before_template = "admin/catalog/jobs/overview.html"
    list_display = (
        "began",
        "collection",
        "what",
        "state_",
        "files",
        "outcome",
    )
    list_filter = (CollectionFilter, ("source", ChoicesDropdownFilter), JobStateFilter)
    list_filter_submit = True
    list_per_page = 50

    class Media:
        js = ("catalog/admin/talk.js", "catalog/admin/jobs.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[IntakeJob]:
        return jobs_for(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CountedJobs

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        failures = recent_failures(jobs_for(request))
        overview = {
            "queues": queues.look(),
            "waiting": waiting(Collection.objects.editable_by(request.user)),
            "failures": [_failure(line) for line in failures[:FAILURES_SHOWN]],
            "failure_count": failures.count(),
            "may_run_jobs": may_run_jobs(request),
        }
        return super().changelist_view(  # type: ignore[no-any-return]
            request, {"overview": overview, **(extra_context or {})}
        )

    @display(description="state", ordering="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def state_(self, job: IntakeJob) -> str:
        return state_of_job(job, total=job.line_count, waiting=job.waiting_count)  # type: ignore[attr-defined]

    @admin.display(description="began", ordering="id")
    def began(self, job: IntakeJob) -> SafeString:
        return moment(job.created_at)

    @admin.display(description="what", ordering="source")
    def what(self, job: IntakeJob) -> SafeString | str:
        by = f"by {job.started_by}" if job.started_by else ""
        facts = ", ".join(fact for fact in (job.name, by) if fact)
        source = job.get_source_display()
        return format_html('{} <span class="vs-small vs-name">{}</span>', source, facts) if facts else source

    @admin.display(description="files")
    def files(self, job: IntakeJob) -> int:
        return job.line_count  # type: ignore[attr-defined, no-any-return]  # by CountedJobs, as the next ones

    @admin.display(description="outcome")
    def outcome(self, job: IntakeJob) -> str:
        counts = {name: getattr(job, f"{verdict}_count") for verdict, name in SHOWN.items()}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or NONE

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lines_view)
        return [path("<uuid:pk>/lines/", view, name="catalog_intakejob_lines"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        job = self.job_for(request, uuid_of(object_id))
        verdict = request.GET.get("verdict", "")
        lines = _lines(job, request)
        lines = lines.filter(verdict=verdict) if verdict in SHOWN else lines
        page = Paginator(lines, LINES_PER_PAGE).get_page(request.GET.get("page"))
        progress = progress_row(job, user_of(request))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{job.get_source_display()} into {job.collection}",
            "actions": actions_for(request),
            "opts": self.opts,
            "original": job,
            "job": job,
            "sizes": _sizes(job.normalise),
            "progress": progress,
            "possible": [name for name, would_do in progress["may"].items() if would_do],
            "rows": rows(page.object_list, user_of(request)),
            "page": page,
            "verdict": verdict,
            "verdict_name": SHOWN.get(verdict, ""),
            "verdicts": SHOWN,
            "lines_per_page": LINES_PER_PAGE,
            "takes_new": not verdict and page.paginator.num_pages == 1,
            "seconds_young": max(0, round((job.created_at + YOUNG - timezone.now()).total_seconds())),
            "lines_url": reverse("admin:catalog_intakejob_lines", args=[job.pk]),
        }
        return TemplateResponse(request, "admin/catalog/jobs/job.html", context)

    def lines_view(self, request: HttpRequest, pk: UUID) -> JsonResponse:
        """Progress of a job, and of its lines those of `lines=id,id,...`, and as `new` those after the line `after=id`.

        At most ASKED_AT_ONCE of either; an empty `after` is from the first on.
        """
        job = self.job_for(request, pk)
        asked = [key for key in map(uuid_of, request.GET.get("lines", "").split(",")) if key.int][:ASKED_AT_ONCE]
        user = user_of(request)
        lines = rows(_lines(job, request).filter(pk__in=asked), user) if asked else []
        said = {"progress": progress_row(job, user), "lines": lines}
        if "after" in request.GET:
            newer = _lines(job, request).filter(pk__gt=uuid_of(request.GET["after"]))
            said["new"] = rows(newer[:ASKED_AT_ONCE], user)
        return JsonResponse(said)


def _lines(job: IntakeJob, request: HttpRequest) -> QuerySet[IntakeLine]:
    return with_choices(IntakeLine.objects.filter(job=job), user_of(request)).order_by("id")


def _sizes(rule: str) -> str:
    """What a rule of catalog.vision.normalising makes of each file, in words."""
    kind, _, side = rule.partition(":")
    return {LONGEST: f"longest side {side} pixels", SQUARE: f"{side} by {side} pixels"}.get(kind, "")


def _failure(line: IntakeLine) -> dict[str, Any]:
    return {"line": line, "url": f"{job_url(line.job_id)}?verdict=failed"}
