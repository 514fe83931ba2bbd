"""Jobs: putting many images in by one call, and following, pausing and trying again what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Q, QuerySet
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView, get_object_or_404
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from catalog.api import filters
from catalog.api.bodies import body_of, content_of
from catalog.api.files import AnyMediaType
from catalog.api.idempotency import IDEMPOTENCY_KEY, carried_out_once
from catalog.api.job_serializers import (
    MADE_FROM,
    JobBegunSerializer,
    JobDetailSerializer,
    JobForm,
    JobLineSerializer,
    JobSerializer,
    csv_response,
    refused,
    told,
)
from catalog.api.lookups import by_id_or_name, check_may_edit
from catalog.api.pagination import OldestFirst
from catalog.api.parsers import BoundedJSONParser
from catalog.api.schema import problems
from catalog.api.views import READING, UPLOADING, WRITING, ReadViewSet, user_of
from catalog.duplicates.of_lines import with_choices
from catalog.idempotency import Turn
from catalog.intake import csv_files, deleting, jobs, url_lists
from catalog.intake.errors import JobError, ListRefused
from catalog.models import Collection, IntakeJob, IntakeLine
from catalog.overview import count_lines
from catalog.querysets import Viewer

MINE = "For the one who started it and the editors of its collection."


def jobs_for(user: Viewer) -> QuerySet[IntakeJob]:
    edited = Collection.objects.editable_by(user)
    return IntakeJob.objects.filter(Q(started_by=user.pk) | Q(collection__in=edited)).select_related("collection")


@extend_schema_view(
    list=extend_schema(
        summary="Jobs of yours, newest first",
        description=MINE,
        responses={200: JobSerializer(many=True), **READING},
    ),
    retrieve=extend_schema(
        summary="How far a job is", description=MINE, responses={200: JobDetailSerializer, **READING}
    ),
)
@extend_schema(tags=["jobs"])
class JobViewSet(ReadViewSet[IntakeJob]):
    queryset = IntakeJob.objects.none()
    permission_classes = (IsAuthenticated,)
    parser_classes = (BoundedJSONParser, MultiPartParser)
    filterset_class = filters.JobFilter

    def get_queryset(self) -> QuerySet[IntakeJob]:
        return jobs_for(self.request.user)

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        count_lines(page or ())
        return page

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(told(self.get_object(), self.get_serializer_context()))

    def get_serializer_class(self) -> type[BaseSerializer[IntakeJob]]:
        return JobSerializer if self.action == "list" else JobDetailSerializer

    @extend_schema(
        summary="Put images in from addresses",
        description=(
            "To a collection that you edit, by `urls`, a `list` file or a `csv` file. The whole list is checked first: "
            "while a line of it is wrong nothing is stored, and `errors` names the lines. Workers fetch the rest, a "
            "few at a time of each server. The same list again goes on with what is not finished, "
            "and tries again what has failed."
        ),
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": JobForm, "multipart/form-data": JobForm},
        responses={202: JobBegunSerializer, **UPLOADING},
    )
    @carried_out_once
    def create(self, request: Request, turn: Turn) -> Response:
        form = JobForm(data=body_of(request))
        form.is_valid(raise_exception=True)
        said = form.validated_data
        collection = by_id_or_name(Collection.objects.visible_to(request.user), said["collection"])
        check_may_edit(request.user, collection.pk)
        try:
            job = _start(collection, said, request, turn)
        except JobError as error:
            raise ValidationError(str(error)) from error
        answer = {**told(job, self.get_serializer_context()), "tried_again": job.tried_again}
        return Response(answer, status=202)

    @extend_schema(summary="Begin nothing more of it", request=None, responses={200: JobDetailSerializer, **WRITING})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._do(jobs.pause)

    @extend_schema(summary="Go on with a paused job", request=None, responses={200: JobDetailSerializer, **WRITING})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._do(jobs.resume)

    @extend_schema(
        summary="Leave what was not begun",
        description="What was stored stays. `retry` takes up again what was cancelled.",
        request=None,
        responses={200: JobDetailSerializer, **WRITING},
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self._do(jobs.cancel)

    @extend_schema(
        summary="Try again what failed or was cancelled",
        description=(
            "What was sent with a request cannot be tried again: send it once more. Files that lie in a folder of the "
            "server wait until the command that began the job (`manage.py import_folder`, `import_csv`) runs again "
            "where they lie."
        ),
        request=None,
        responses={200: JobDetailSerializer, **WRITING},
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        return self._do(jobs.retry_failed)

    @extend_schema(
        summary="Delete a job",
        description="One that is cancelled, or has nothing left to do: its lines go, and with them what they say of "
        "each file. The images that it put in stay; `DELETE images/{id}/` deletes those.",
        responses={204: None, **WRITING},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        job = self.get_object()
        check_may_edit(request.user, job.collection_id)
        deleting.delete(job, user_of(request))
        return Response(status=204)

    def _do(self, act: Callable[..., Any]) -> Response:
        """Raises JobError where the job's state does not allow it."""
        job = self.get_object()
        check_may_edit(self.request.user, job.collection_id)
        act(job, user_of(self.request))
        return Response(told(job, self.get_serializer_context()))


def _start(collection: Collection, said: dict[str, Any], request: Request, turn: Turn) -> IntakeJob:
    """Raises ValidationError for a list that cannot be taken, and JobError."""
    user, normalise = user_of(request), said["normalise"]
    field = next(name for name in MADE_FROM if name in said)
    name = said["name"] or ("" if field == "urls" else said[field].name)
    try:
        if field == "csv":
            only, content = Collection.objects.filter(pk=collection.pk), content_of(said["csv"]).read()
            plan = csv_files.read(content, name=name, collections=only, default=collection, user=user)
            [job] = csv_files.start(plan, normalise=normalise, user=user, job_id=turn.id)
            return job
        addresses = url_lists.read(said["urls"] if field == "urls" else content_of(said["list"]).read())
    except ListRefused as error:
        raise refused(field, error) from error
    return url_lists.start(collection, addresses, name=name, normalise=normalise, user=user, job_id=turn.id)


@extend_schema(tags=["jobs"])
class JobLinesView(ListAPIView[IntakeLine]):
    queryset = IntakeLine.objects.none()
    serializer_class = JobLineSerializer
    permission_classes = (IsAuthenticated,)
    pagination_class = OldestFirst
    filter_backends = (filters.StrictFilterBackend,)
    filterset_class = filters.LineFilter

    def get_queryset(self) -> QuerySet[IntakeLine]:
        if getattr(self, "swagger_fake_view", False):
            return self.queryset
        job = get_object_or_404(jobs_for(self.request.user), pk=self.kwargs["pk"])
        return with_choices(IntakeLine.objects.filter(job=job), self.request.user)

    @extend_schema(
        operation_id="jobs_lines_list",
        summary="What became of each file of a job",
        description=f"In the order of its list. {MINE}",
        responses={200: JobLineSerializer(many=True), **READING},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class JobCsvView(APIView):
    content_negotiation_class = AnyMediaType
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="jobs_lines_csv",
        tags=["jobs"],
        summary="All lines of a job as CSV",
        description=MINE,
        responses={(200, "text/csv"): OpenApiTypes.STR, **problems(401, 404, 429, 503)},
    )
    def get(self, request: Request, pk: str) -> HttpResponseBase:
        return csv_response(get_object_or_404(jobs_for(request.user), pk=pk), request.user)
