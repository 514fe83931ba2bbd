"""Pieces that several serializers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Model
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from catalog.models import Image
from catalog.storage import RENDITION_SIZES

FORM_EXTRAS = frozenset({"csrfmiddlewaretoken"})


class StrictSerializer(serializers.Serializer[Any]):
    """Input in which a misspelled field is an error, not a field that is quietly ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(set(data) - set(self.fields) - FORM_EXTRAS)
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError(
                    {name: [f"There is no such field, only {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


class ReferenceSerializer(serializers.Serializer[Model]):
    """An object by id and name."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class BoxSerializer(serializers.Serializer[Any]):
    """A rectangle in pixels of the oriented original, origin at the top left."""

    x = serializers.FloatField()
    y = serializers.FloatField()
    width = serializers.FloatField()
    height = serializers.FloatField()


@extend_schema_field(
    {
        "type": "object",
        "description": "Address of each rendition by the pixels of its longest side.",
        "properties": {str(size): {"type": "string", "format": "uri"} for size in RENDITION_SIZES},
        "required": [str(size) for size in RENDITION_SIZES],
    }
)
class RenditionsField(serializers.Field[Any, Any, dict[str, str], Image]):
    """Addresses of an image's renditions. They answer 404 until the image has been processed."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, image: Image) -> dict[str, str]:
        request = self.context.get("request")
        return {
            str(size): reverse("image-rendition", kwargs={"pk": image.pk, "size": size}, request=request)
            for size in RENDITION_SIZES
        }


class OneOrManyField(serializers.ListField):
    """A list; one value alone stands for a list of one."""

    def to_internal_value(self, data: Any) -> list[Any]:
        return super().to_internal_value([data] if isinstance(data, str) else data)
