"""Images that look like another one, and what becomes of them. A door to catalog.curation.duplicates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters  # type: ignore[import-untyped]
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.api.bodies import body_of
from catalog.api.fields import ReferenceSerializer, StrictSerializer
from catalog.api.lookups import by_id_or_name
from catalog.api.schema import problems
from catalog.api.views import READING, ReadViewSet, user_of
from catalog.curation.duplicates import Choice, Decided, decide
from catalog.curation.errors import Gone
from catalog.duplicates.holding import choices_of
from catalog.duplicates.of_lines import choices_about
from catalog.models import Collection, NearDuplicate


class NearDuplicateFilter(django_filters.FilterSet):  # type: ignore[misc]
    collection = django_filters.CharFilter(method="in_collection", help_text="Id or name.")
    image = django_filters.UUIDFilter(field_name="image_id", help_text="Id of the image that came later.")
    job = django_filters.UUIDFilter(method="of_job", help_text="Id of the job that stored the later image.")
    open = django_filters.BooleanFilter(method="only_open", help_text="true: those that wait for a choice.")

    class Meta:
        model = NearDuplicate
        fields = ["collection", "image", "job", "open"]

    def in_collection(self, queryset: QuerySet[NearDuplicate], _: str, value: str) -> QuerySet[NearDuplicate]:
        return queryset.filter(image__collection=by_id_or_name(Collection.objects.visible_to(self.request.user), value))

    def of_job(self, queryset: QuerySet[NearDuplicate], _: str, value: UUID) -> QuerySet[NearDuplicate]:
        return choices_about(queryset, value)

    def only_open(self, queryset: QuerySet[NearDuplicate], _: str, wanted: bool) -> QuerySet[NearDuplicate]:
        is_open = {"decision": NearDuplicate.Decision.OPEN}
        return queryset.filter(**is_open) if wanted else queryset.exclude(**is_open)


class NearDuplicateSerializer(serializers.ModelSerializer[NearDuplicate]):
    image = serializers.UUIDField(source="image_id", read_only=True, help_text="The image that came later.")
    other = serializers.UUIDField(source="other_id", read_only=True, help_text="The one that was here.")
    collection = ReferenceSerializer(source="image.collection", read_only=True)
    decision = serializers.CharField(read_only=True, help_text="keep or version; empty: it waits for a choice.")
    is_held = serializers.SerializerMethodField(help_text="Nothing runs on the later image until all was chosen.")

    class Meta:
        model = NearDuplicate
        fields = [
            "id",
            "collection",
            "image",
            "other",
            "distance",
            "is_mirrored",
            "is_held",
            "decision",
            "decided_at",
            "created_at",
        ]
        read_only_fields = fields
        extra_kwargs = {
            "distance": {"help_text": "Bits in which their perceptual hashes differ, of 64: 0 looks the same."},
            "is_mirrored": {"help_text": "One looks like the other in a mirror."},
        }

    def get_is_held(self, noted: NearDuplicate) -> bool:
        return noted.image.held_for == noted.image.HeldFor.NEAR_DUPLICATE


class ChoiceForm(StrictSerializer):
    decision = serializers.ChoiceField(
        choices=Choice.choices,
        help_text="keep: both stay. version: the later one is a version of the other. replace: it takes the place of "
        "the other, which is deleted. discard: the later one is deleted.",
    )


class DecidedSerializer(serializers.Serializer[Decided]):
    """What was done. Null for the image that is gone now."""

    decision = serializers.ChoiceField(source="choice", choices=Choice.choices)
    image = serializers.UUIDField(allow_null=True)
    other = serializers.UUIDField(allow_null=True)
    said = serializers.CharField(help_text="In words.")


@extend_schema_view(
    list=extend_schema(
        summary="Images that look like another one, newest first",
        description="In the collections that you edit. `replace` and `discard` delete an image, and what was noted of "
        "it goes with it: only the log keeps them.",
        responses={200: NearDuplicateSerializer(many=True), **READING},
    ),
    retrieve=extend_schema(
        summary="Two images that look alike",
        responses={200: NearDuplicateSerializer, **problems(401, 404, 429, 503)},
    ),
)
@extend_schema(tags=["near duplicates"])
class NearDuplicateViewSet(ReadViewSet[NearDuplicate]):
    queryset = NearDuplicate.objects.none()
    serializer_class = NearDuplicateSerializer
    permission_classes = (IsAuthenticated,)
    filterset_class = NearDuplicateFilter

    def get_queryset(self) -> QuerySet[NearDuplicate]:
        return choices_of(self.request.user)

    @extend_schema(
        summary="Choose what becomes of two images that look alike",
        description="For editors of their collection. 409: somebody has decided already.",
        request=ChoiceForm,
        responses={200: DecidedSerializer, **problems(400, 401, 404, 409, 429, 503)},
    )
    def decide(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        noted = self.get_object()
        form = ChoiceForm(data=body_of(request))
        form.is_valid(raise_exception=True)
        try:
            decided = decide(noted, Choice(form.validated_data["decision"]), user_of(request))
        except Gone as error:
            raise NotFound(str(error)) from error
        return Response(DecidedSerializer(decided).data)
