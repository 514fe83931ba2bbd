"""The catalogue as JSON. What goes out is a *Serializer, what comes in a *Form."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.validators import UniqueValidator
from taggit.models import TagBase

from catalog.api.fields import BoxSerializer, OneOrManyField, ReferenceSerializer, RenditionsField, StrictSerializer
from catalog.curation.errors import NAME_TAKEN
from catalog.curation.people import NAME_LENGTH
from catalog.duplicates.of_lines import nearest
from catalog.models import Collection, Image, IntakeLine, NearDuplicate, Person, Region
from catalog.uploads import ImageFacts

MAX_TAGS = 50


class CollectionSerializer(serializers.ModelSerializer[Collection]):
    class Meta:
        model = Collection
        fields = [
            "id",
            "name",
            "description",
            "is_public",
            "pipelines",
            "face_search",
            "near_duplicates",
            "created_at",
        ]
        read_only_fields = fields


class PersonSerializer(serializers.ModelSerializer[Person]):
    class Meta:
        model = Person
        fields = ["id", "name", "created_at"]
        read_only_fields = fields


class RegionSerializer(serializers.ModelSerializer[Region]):
    image = serializers.UUIDField(source="image_id", read_only=True)
    box = BoxSerializer(source="*", read_only=True)
    score = serializers.FloatField(
        read_only=True, allow_null=True, help_text="The detector's own confidence, 0 to 1 (never a similarity)."
    )
    landmarks = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2),
        read_only=True,
        allow_null=True,
        help_text="Five [x, y] points of a face: left eye, right eye, nose, left and right corner of the mouth.",
    )
    person = ReferenceSerializer(read_only=True, allow_null=True)

    class Meta:
        model = Region
        fields = ["id", "image", "pipeline", "box", "origin", "score", "landmarks", "person", "dismissed", "created_at"]
        read_only_fields = fields


class ImageSerializer(serializers.ModelSerializer[Image]):
    collection = ReferenceSerializer(read_only=True)
    reason = serializers.SerializerMethodField(help_text="Why it failed, or what it waits for: for its editors.")
    tags = serializers.SerializerMethodField()
    renditions = RenditionsField()

    class Meta:
        model = Image
        fields = [
            "id",
            "collection",
            "status",
            "reason",
            "held_for",
            "title",
            "label",
            "external_id",
            "link",
            "source_url",
            "licence",
            "tags",
            "is_published",
            "sha256",
            "format",
            "width",
            "height",
            "byte_size",
            "taken_at",
            "created_at",
            "processed_at",
            "renditions",
        ]
        read_only_fields = fields
        extra_kwargs = {
            "held_for": {
                "help_text": "Of a `held` one: pause, cancel (its job does not run) or near-duplicate (it waits for a "
                "choice); else empty."
            }
        }

    def get_reason(self, image: Image) -> str:
        """Others than its editors see a findable image alone: what it waits for is not theirs to know."""
        is_told = not image.is_findable or not image.reason or image.collection_id in self._edited
        return image.reason if is_told else ""

    @cached_property
    def _edited(self) -> set[UUID]:
        """The collections that whoever asks may edit: looked up once for a list, where somebody has to know at all."""
        return set(Collection.objects.editable_by(self.context["request"].user).values_list("pk", flat=True))

    def get_tags(self, image: Image) -> list[str]:
        tags: list[TagBase] = list(image.tags.all())
        return sorted(tag.name for tag in tags)


class ImageDetailSerializer(ImageSerializer):
    regions = RegionSerializer(many=True, read_only=True)
    version_of = serializers.UUIDField(  # the viewset gives those that may be seen
        source="version_of.pk", read_only=True, allow_null=True, help_text="The image that this one is a version of."
    )
    versions = serializers.PrimaryKeyRelatedField[Image](
        many=True, read_only=True, help_text="Images that are versions of this one."
    )

    class Meta(ImageSerializer.Meta):
        fields = [*ImageSerializer.Meta.fields, "regions", "version_of", "versions"]
        read_only_fields = fields


class LikenessSerializer(serializers.ModelSerializer[NearDuplicate]):
    """`POST near-duplicates/{id}/` chooses what becomes of it."""

    other = serializers.UUIDField(source="other_id", read_only=True, help_text="The image that was here.")

    class Meta:
        model = NearDuplicate
        fields = ["id", "other", "distance", "is_mirrored"]
        read_only_fields = fields


class IntakeLineSerializer(serializers.ModelSerializer[IntakeLine]):
    """Of a line of `catalog.duplicates.of_lines.with_choices`."""

    image = serializers.UUIDField(
        source="image_id", read_only=True, allow_null=True, help_text="The image stored, or the one already here."
    )

    near_duplicate = serializers.SerializerMethodField(
        help_text="What the image that was stored looks like most, until an editor has chosen what becomes of it."
    )

    class Meta:
        model = IntakeLine
        fields = ["id", "source", "verdict", "code", "reason", "image", "near_duplicate"]
        read_only_fields = fields

    @extend_schema_field(LikenessSerializer(allow_null=True))
    def get_near_duplicate(self, line: IntakeLine) -> dict[str, Any] | None:
        noted = nearest(line)
        return None if noted is None else dict(LikenessSerializer(noted).data)


class UploadForm(StrictSerializer):
    """One file for a collection, with what is known of it."""

    image = serializers.FileField(
        allow_empty_file=True, help_text="The file: JPEG, PNG, WebP, GIF, TIFF, AVIF or HEIC, 50 MB and 64 megapixels."
    )
    collection = serializers.CharField(help_text="Id or name of a collection that you edit.")
    title = serializers.CharField(max_length=300, default="", allow_blank=True)
    label = serializers.CharField(  # type: ignore[assignment]  # a field's own label is another thing
        max_length=200, default="", allow_blank=True, help_text="Class or article number."
    )
    external_id = serializers.CharField(max_length=200, default="", allow_blank=True, help_text="Your own key for it.")
    link = serializers.URLField(max_length=2000, default="", allow_blank=True, help_text="Where a shopper goes.")
    source_url = serializers.URLField(max_length=2000, default="", allow_blank=True)
    licence = serializers.CharField(max_length=200, default="", allow_blank=True)
    tags = OneOrManyField(
        child=serializers.CharField(max_length=100), max_length=MAX_TAGS, default=list, help_text="May be repeated."
    )
    is_published = serializers.BooleanField(default=True)

    def facts(self, uploader_id: int | None) -> ImageFacts:
        known: dict[str, Any] = dict(self.validated_data)
        del known["image"], known["collection"]
        return ImageFacts(**known, uploader_id=uploader_id)


class RegionForm(StrictSerializer):
    """What an editor may say of a region. Fields that are not sent stay as they are."""

    person = serializers.UUIDField(required=False, allow_null=True, help_text="Id of a person; null: nobody.")
    person_name = serializers.CharField(
        required=False, max_length=NAME_LENGTH, help_text="Name of a person, who is made if there is none of this name."
    )
    dismissed = serializers.BooleanField(required=False, help_text="True: this is not a face.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "person" in attrs and "person_name" in attrs:
            raise serializers.ValidationError({"person_name": ["Send person or person_name, not both."]})
        return attrs


class PersonForm(StrictSerializer):
    name = serializers.CharField(
        max_length=NAME_LENGTH,
        validators=[UniqueValidator(Person.objects.all(), message=NAME_TAKEN)],
    )
