"""The catalogue's part of /api/v1/. Doors only: who may, what was sent, and one function of the catalogue."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Model, Prefetch, Q, QuerySet
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema, extend_schema_view
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from catalog.api import filters
from catalog.api.bodies import body_of
from catalog.api.exceptions import NotStored
from catalog.api.idempotency import IDEMPOTENCY_KEY, carried_out_once
from catalog.api.job_serializers import JobDetailSerializer, told
from catalog.api.lookups import by_id_or_name, check_may_edit
from catalog.api.pagination import IdCursorPagination
from catalog.api.schema import problems
from catalog.api.serializers import (
    CollectionSerializer,
    ImageDetailSerializer,
    ImageSerializer,
    IntakeLineSerializer,
    PersonForm,
    PersonSerializer,
    RegionForm,
    RegionSerializer,
    UploadForm,
)
from catalog.api.uploading import MOST_FILES, Upload, check_count, receive_one, receive_several
from catalog.curation import faces, images, people
from catalog.curation.errors import BadName, CurationError, Gone, NameTaken, NotAFace
from catalog.duplicates.of_lines import look_up, with_choices
from catalog.idempotency import Turn
from catalog.models import Collection, Image, IntakeLine, Person, Region

Row = TypeVar("Row", bound=Model)
UUID_PATTERN = "[0-9a-fA-F-]{32,36}"

READING = problems(400, 401, 404, 429, 503)
WRITING = problems(400, 401, 403, 404, 409, 429, 503)
UPLOADING = problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)


class ReadViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Row]):
    pagination_class = IdCursorPagination
    filter_backends = (filters.StrictFilterBackend,)
    lookup_value_regex = UUID_PATTERN


@extend_schema_view(
    list=extend_schema(summary="Collections you may see", responses={200: CollectionSerializer(many=True), **READING}),
    retrieve=extend_schema(summary="One collection", responses={200: CollectionSerializer, **READING}),
)
@extend_schema(tags=["collections"])
class CollectionViewSet(ReadViewSet[Collection]):
    queryset = Collection.objects.none()
    serializer_class = CollectionSerializer
    filterset_class = filters.CollectionFilter

    def get_queryset(self) -> QuerySet[Collection]:
        return Collection.objects.visible_to(self.request.user)


@extend_schema_view(
    list=extend_schema(
        summary="Images you may see, newest first",
        description="Ready, published images of the collections you see; all images of those you edit.",
        responses={200: ImageSerializer(many=True), **READING},
    ),
    retrieve=extend_schema(
        summary="One image with its regions",
        description="Faces and names are among the regions only where you may search faces.",
        responses={200: ImageDetailSerializer, **READING},
    ),
)
@extend_schema(tags=["images"])
class ImageViewSet(ReadViewSet[Image]):
    queryset = Image.objects.none()
    parser_classes = (MultiPartParser,)
    filterset_class = filters.ImageFilter

    def get_queryset(self) -> QuerySet[Image]:
        images = Image.objects.visible_to(self.request.user).select_related("collection").prefetch_related("tags")  # type: ignore[misc]
        if self.action != "retrieve":
            return images
        regions = Region.objects.shown_to(self.request.user).select_related("person")
        seen = Image.objects.visible_to(self.request.user).order_by("-id").only("pk", "version_of")
        versions = (Prefetch(name, queryset=seen) for name in ("version_of", "versions"))
        return images.prefetch_related(Prefetch("regions", queryset=regions), *versions)

    def get_serializer_class(self) -> type[BaseSerializer[Image]]:
        return ImageDetailSerializer if self.action == "retrieve" else ImageSerializer

    @extend_schema(
        summary="Upload an image, or several",
        description=(
            "Multipart, to a collection that you edit. One file: 202: stored, being processed; 200: the collection has "
            "the very same file already. A refusal (413, 415, 422) carries the intake `line`, too, unless the request "
            "was too large to be read at all. Follow `GET images/{image}/` until its `status` is `ready`, `failed` or "
            "`held`: somebody has to choose first, or its job does not run; `held_for` and `reason` say which. "
            f"Several parts `image` (at most {MOST_FILES}): 202 with their job, whatever became of each: see its "
            "`lines`. What else is sent holds for each file."
        ),
        parameters=[IDEMPOTENCY_KEY],
        request={"multipart/form-data": UploadForm},
        responses={
            202: PolymorphicProxySerializer(
                component_name="LineOrJob",
                serializers=[IntakeLineSerializer, JobDetailSerializer],
                resource_type_field_name=None,
            ),
            200: IntakeLineSerializer,
            **UPLOADING,
        },
    )
    @carried_out_once
    def create(self, request: Request, turn: Turn) -> Response:
        form = UploadForm(data=body_of(request, several=("image",)))
        form.is_valid(raise_exception=True)
        collection = by_id_or_name(Collection.objects.visible_to(request.user), form.validated_data["collection"])
        check_may_edit(request.user, collection.pk)
        files, user_id = request.FILES.getlist("image"), user_of(request).pk
        check_count(files)
        upload = Upload(collection, files, form.facts(user_id), user_id, turn)
        if len(files) == 1:
            return _answer(receive_one(upload), request)
        return Response(told(receive_several(upload), self.get_serializer_context()), status=202)

    @extend_schema(
        summary="Delete an image",
        description="Its regions, embeddings and files go with it; no search finds it from now on.",
        responses={204: None, **WRITING},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        image = self.get_object()
        check_may_edit(request.user, image.collection_id)
        images.delete(Image.objects.filter(pk=image.pk), user_of(request))
        return Response(status=204)


def _answer(line: IntakeLine, request: Request) -> Response:
    """What an upload is told. Raises NotStored for a refusal."""
    look_up([line], request.user)
    data = IntakeLineSerializer(line).data
    if line.verdict == IntakeLine.Verdict.REFUSED:
        raise NotStored(line.code, line.reason, data)
    return Response(data, status=202 if line.verdict == IntakeLine.Verdict.STORED else 200)


@extend_schema(tags=["images"])
class IntakeLineViewSet(RetrieveModelMixin, GenericViewSet[IntakeLine]):
    queryset = IntakeLine.objects.none()
    serializer_class = IntakeLineSerializer
    permission_classes = (IsAuthenticated,)
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[IntakeLine]:
        edited = Collection.objects.editable_by(self.request.user)
        lines = IntakeLine.objects.filter(Q(job__started_by=self.request.user.pk) | Q(job__collection__in=edited))
        return with_choices(lines, self.request.user)

    @extend_schema(
        summary="What became of a file that was sent",
        description="For the one who sent it and the editors of its collection.",
        responses={200: IntakeLineSerializer, **READING},
    )
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().retrieve(request, *args, **kwargs)


@extend_schema_view(
    list=extend_schema(
        summary="Regions: faces, and whole images",
        description="Faces only where you may search faces; dismissed ones only where you may edit.",
        responses={200: RegionSerializer(many=True), **READING},
    ),
    retrieve=extend_schema(summary="One region", responses={200: RegionSerializer, **READING}),
)
@extend_schema(tags=["regions"])
class RegionViewSet(ReadViewSet[Region]):
    queryset = Region.objects.none()
    serializer_class = RegionSerializer
    filterset_class = filters.RegionFilter

    def get_queryset(self) -> QuerySet[Region]:
        return Region.objects.shown_to(self.request.user).select_related("person", "image")

    @extend_schema(
        summary="Name or dismiss a face",
        description="For editors. A person named by `person_name` is made if there is none of this name; the name of "
        "somebody whom you may not see is refused.",
        request=RegionForm,
        responses={200: RegionSerializer, **WRITING},
    )
    @transaction.atomic
    def partial_update(self, request: Request, pk: str) -> Response:
        region = self.get_object()
        check_may_edit(request.user, region.image.collection_id)
        form = RegionForm(data=body_of(request))
        form.is_valid(raise_exception=True)
        try:
            self._apply(region, form.validated_data)
        except Gone as error:
            raise NotFound(str(error)) from error
        return Response(self.get_serializer(self.get_object()).data)

    def _apply(self, region: Region, said: dict[str, Any]) -> None:
        user = user_of(self.request)
        if "person_name" in said:
            _name(region, said["person_name"], user)
        elif said.get("person") is not None:
            _name(region, by_id_or_name(Person.objects.visible_to(user), str(said["person"])), user)
        elif "person" in said:
            faces.unname_face(region, user)
        if "dismissed" in said:
            (faces.dismiss_region if said["dismissed"] else faces.restore_region)(region, user)


def _name(region: Region, name: str | Person, user: User) -> None:
    """Raises ValidationError for what is no face, no name, or the name of somebody whose faces may not be seen."""
    try:
        if isinstance(name, str):
            name = people.cleaned_name(name)
            people.check_may_use_name(name, user)
        faces.name_face(region, name, user)
    except (NameTaken, BadName) as error:
        raise ValidationError({"person_name": [str(error)]}) from error
    except NotAFace as error:
        raise ValidationError({"person": [str(error)]}) from error


def user_of(request: Request) -> User:
    """Of requests that have passed IsAuthenticated or check_may_edit."""
    assert isinstance(request.user, User)
    return request.user


@extend_schema_view(
    list=extend_schema(
        summary="People named on faces that you may see", responses={200: PersonSerializer(many=True), **READING}
    ),
    retrieve=extend_schema(summary="One person", responses={200: PersonSerializer, **READING}),
)
@extend_schema(tags=["people"])
class PersonViewSet(ReadViewSet[Person]):
    queryset = Person.objects.none()
    serializer_class = PersonSerializer
    filterset_class = filters.PersonFilter

    def get_queryset(self) -> QuerySet[Person]:
        return Person.objects.visible_to(self.request.user)

    @extend_schema(
        summary="Rename a person",
        description="For whoever edits every collection in which this person is named. "
        "People are made by naming a face: `PATCH regions/{id}/` with `person_name`.",
        request=PersonForm,
        responses={200: PersonSerializer, **WRITING},
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        person = self.get_object()
        if not Person.objects.editable_by(request.user).filter(pk=person.pk).exists():
            raise PermissionDenied("This person is named in a collection that you do not edit. Ask its editors.")
        form = PersonForm(person, data=body_of(request))
        form.is_valid(raise_exception=True)
        try:
            person = people.rename_person(person, form.validated_data["name"], user_of(request))
        except CurationError as error:
            raise ValidationError({"name": [str(error)]}) from error
        return Response(self.get_serializer(person).data)
