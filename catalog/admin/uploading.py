"""Putting images in from the admin: one request for each file with JavaScript, one for up to 100 files without.

Every batch is one IntakeJob. The page names the job's id before it exists, so a form that is sent twice, or many
requests at once, make one job.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from uuid_utils.compat import uuid7

from catalog import broker, uploads
from catalog.admin.base import CatalogAdmin, user_of
from catalog.admin.job_actions import job_url, may_run_jobs
from catalog.admin.lines import row
from catalog.api.bodies import UPLOAD_REFUSED, content_of
from catalog.api.decoding import Busy, decoding_slot
from catalog.checking import source_of
from catalog.duplicates.of_lines import look_up
from catalog.exceptions import ImageRefused
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.uploads import Arrival, ImageFacts
from catalog.vision.formats import FORMATS

MOST_AT_ONCE = 100
ACCEPT = ",".join(["image/*", *(extension for kind in FORMATS.values() for extension in kind.extensions)])


class UploadUrls(CatalogAdmin):
    """The page `<collection>/upload/` and what it sends to."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.upload_view)
        return [path("<uuid:pk>/upload/", view, name="catalog_collection_upload"), *super().get_urls()]

    def upload_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """GET: the page. POST: files, answered by JSON where that is asked for, else by the job's page."""
        if not may_upload(request):
            raise PermissionDenied
        collection = get_object_or_404(Collection.objects.editable_by(request.user), pk=pk)
        if request.method != "POST":
            return self._page(request, collection)
        if request.accepts("text/html"):
            return _take_form(request, collection)
        return _take_one(request, collection)

    def _page(self, request: HttpRequest, collection: Collection) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            **upload_context(collection),
            "title": f"Put images into {collection}",
            "opts": self.opts,
            "original": collection,
            "may_run_jobs": may_run_jobs(request),
        }
        return TemplateResponse(request, "admin/catalog/collections/upload.html", context)


def may_upload(request: HttpRequest) -> bool:
    return request.user.has_perm("catalog.add_image")


def upload_context(collection: Collection) -> dict[str, Any]:
    """What the drop zone needs."""
    job_id = uuid7()
    return {
        "upload_url": reverse("admin:catalog_collection_upload", args=[collection.pk]),
        "upload_job": job_id,
        "upload_job_url": job_url(job_id),
        "upload_lines_url": reverse("admin:catalog_intakejob_lines", args=[job_id]),
        "upload_accept": ACCEPT,
        "upload_most": MOST_AT_ONCE,
        "upload_bytes": settings.VISEARCH_LIMITS["bytes"],
        "upload_notice": broker.AWAY if broker.is_away() else "",
        "upload_idle": not collection.pipelines,
    }


def _job(request: HttpRequest, collection: Collection) -> tuple[IntakeJob, bool]:
    """The job that the page named, and whether it is new. Raises Http404 for one of somebody else."""
    try:
        job_id = UUID(request.POST.get("job", ""))
    except ValueError as error:
        raise Http404("The form names no job. Load its page again.") from error
    facts = {"collection": collection, "source": IntakeJob.Source.ADMIN, "started_by_id": request.user.pk}
    try:
        job, is_new = IntakeJob.objects.get_or_create(pk=job_id, defaults=facts)
    except IntegrityError:  # the collection went in this moment
        raise Http404("The collection is gone.") from None
    if (job.collection_id, job.started_by_id) != (collection.pk, request.user.pk):
        raise Http404("The job is another's. Load the page again.")
    return job, is_new


# --- With JavaScript --------------------------------------------------------------------------------------------------


def _take_one(request: HttpRequest, collection: Collection) -> JsonResponse:
    """One file; its line, whatever became of it. 503 where the server had no turn for it: send it again."""
    file = request.FILES.get("images")  # reading it is what may leave a refusal
    refusal = request.META.get(UPLOAD_REFUSED) or _too_large(request)
    if refusal is not None:
        job, _ = _job(request, collection)
        return _shown(uploads.refuse(job, request.POST.get("name", ""), refusal), request)
    if file is None:
        return JsonResponse({"detail": "The request has no file."}, status=400)
    job, _ = _job(request, collection)
    try:
        line = _receive(job, file)
    except Busy as busy:
        return JsonResponse({"detail": str(busy.detail)}, status=503, headers={"Retry-After": "2"})
    return _shown(line, request)


def _shown(line: IntakeLine, request: HttpRequest) -> JsonResponse:
    user = user_of(request)
    look_up([line], user)
    return JsonResponse(row(line, user))


def _too_large(request: HttpRequest) -> ImageRefused | None:
    """The page does not send what cannot be taken, it says how large it is."""
    size, limit = request.POST.get("too_large", ""), settings.VISEARCH_LIMITS["bytes"]
    if not size.isdecimal() or int(size) <= limit:
        return None
    return ImageRefused(
        "too-many-bytes",
        f"The file has {int(size):,} bytes, {limit:,} are the most that it may have. Send a smaller image.",
        limit=limit,
        actual=int(size),
    )


def _receive(job: IntakeJob, file: UploadedFile[bytes]) -> IntakeLine:
    """Raises Busy."""
    with decoding_slot():
        arrival = Arrival(content_of(file), file.name or "", ImageFacts(uploader_id=job.started_by_id))
        return uploads.receive_many(job, [arrival])[0]


# --- Without ----------------------------------------------------------------------------------------------------------


def _take_form(request: HttpRequest, collection: Collection) -> HttpResponse:
    """All files of the form; the job's page then shows their lines."""
    problem = _problem(request)
    if problem:
        messages.error(request, problem)
        return HttpResponseRedirect(request.path)
    job, is_new = _job(request, collection)
    if is_new:
        for file in request.FILES.getlist("images"):
            _receive_or_say(job, file)
    else:
        messages.info(request, "This form was sent already. Here is what became of its files.")
    return HttpResponseRedirect(job_url(job.pk))


def _problem(request: HttpRequest) -> str:
    """Why nothing of the form is taken, or empty."""
    count = len(request.FILES.getlist("images"))
    refusal = request.META.get(UPLOAD_REFUSED)
    if refusal is not None:
        return f"{refusal} Nothing was stored. With JavaScript each file is sent for itself."
    if count > MOST_AT_ONCE:
        return (
            f"These are {count} files, {MOST_AT_ONCE} are the most at once without JavaScript. Nothing was stored. "
            "Choose fewer, or switch JavaScript on: then there is no limit."
        )
    return "" if count else "Choose at least one file first."


def _receive_or_say(job: IntakeJob, file: UploadedFile[bytes]) -> None:
    try:
        _receive(job, file)
    except Busy as busy:
        IntakeLine.objects.create(
            job=job,
            source=source_of(file.name or ""),
            verdict=IntakeLine.Verdict.FAILED,
            code=busy.default_code,
            reason=str(busy.detail),
            ended_at=timezone.now(),
        )
