"""Jobs: what became of every file that was put in. Read only; the page follows by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from catalog.admin.base import CatalogAdmin, uuid_of
from catalog.admin.filters import CollectionFilter
from catalog.admin.lines import progress_row, rows
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.overview import with_line_counts
from catalog.records import NONE, ReadOnly, moment

LINES_PER_PAGE = 100
YOUNG = timedelta(minutes=10)  # for so long more files may come, also while nothing waits
ASKED_AT_ONCE = 50  # ids in one address, which servers cut at 4 KB
SOURCES = {"api": "Upload by the API", "admin": "Upload", "folder": "Import of a folder"}
SHOWN = {"refused": "refused", "failed": "failed", "duplicate": "already here", "stored": "stored"}


@admin.register(IntakeJob)
class IntakeJobAdmin(ReadOnly, CatalogAdmin):
    list_display = (
        "began",
        "collection",
        "source",
        "started_by",
        "files",
        "stored",
        "waiting",
        "already_here",
        "refused",
        "failed",
    )
    list_filter = (CollectionFilter, ("source", ChoicesDropdownFilter))
    list_filter_submit = True
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[IntakeJob]:
        return with_line_counts(_jobs(request))

    @admin.display(description="began", ordering="id")
    def began(self, job: IntakeJob) -> SafeString:
        return moment(job.created_at)

    @admin.display(description="files")
    def files(self, job: IntakeJob) -> int:
        return job.line_count  # type: ignore[attr-defined, no-any-return]  # annotated, as the next ones

    @admin.display(description="stored")
    def stored(self, job: IntakeJob) -> int | str:
        return job.stored_count or NONE  # type: ignore[attr-defined]

    @admin.display(description="waiting")
    def waiting(self, job: IntakeJob) -> int | str:
        return job.waiting_count or NONE  # type: ignore[attr-defined]

    @admin.display(description="already here")
    def already_here(self, job: IntakeJob) -> int | str:
        return job.duplicate_count or NONE  # type: ignore[attr-defined]

    @admin.display(description="refused")
    def refused(self, job: IntakeJob) -> int | str:
        return job.refused_count or NONE  # type: ignore[attr-defined]

    @admin.display(description="failed")
    def failed(self, job: IntakeJob) -> int | str:
        return job.failed_count or NONE  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.lines_view)
        return [path("<uuid:pk>/lines/", view, name="catalog_intakejob_lines"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        job = self._job(request, object_id)
        verdict = request.GET.get("verdict", "")
        lines = _lines(job).filter(verdict=verdict) if verdict in SHOWN else _lines(job)
        page = Paginator(lines, LINES_PER_PAGE).get_page(request.GET.get("page"))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{SOURCES[job.source]} into {job.collection}",
            "opts": self.opts,
            "original": job,
            "job": job,
            "progress": progress_row(job),
            "rows": rows(page.object_list),
            "page": page,
            "verdict": verdict,
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
        job = self._job(request, str(pk))
        asked = [key for key in map(uuid_of, request.GET.get("lines", "").split(",")) if key.int][:ASKED_AT_ONCE]
        lines = rows(_lines(job).filter(pk__in=asked)) if asked else []
        said = {"progress": progress_row(job), "lines": lines}
        if "after" in request.GET:
            newer = _lines(job).filter(pk__gt=uuid_of(request.GET["after"]))
            said["new"] = rows(newer[:ASKED_AT_ONCE])
        return JsonResponse(said)

    def _job(self, request: HttpRequest, object_id: str) -> IntakeJob:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(_jobs(request), pk=uuid_of(object_id))


def _jobs(request: HttpRequest) -> QuerySet[IntakeJob]:
    """Those that this user may see."""
    mine = Collection.objects.editable_by(request.user)
    return IntakeJob.objects.filter(collection__in=mine).select_related("collection", "started_by")


def _lines(job: IntakeJob) -> QuerySet[IntakeLine]:
    return IntakeLine.objects.filter(job=job).select_related("image").order_by("id")
