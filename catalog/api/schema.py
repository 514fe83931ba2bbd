"""What the OpenAPI document says of errors: application/problem+json (RFC 9457), made in visearch_site.errors."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from catalog.api.serializers import IntakeLineSerializer

PROBLEM_JSON = "application/problem+json"
_MEANINGS = {
    400: "The request cannot be understood; `errors` names the fields.",
    401: "Log in: `Authorization: Token <token>`.",
    403: "You may see this, not do it.",
    404: "There is no such object, or you may not see it.",
    409: "Not possible in its present state.",
    413: "Too large; `limit` and `actual` say how much.",
    415: "Not an image of a format we take.",
    422: "An image that cannot be used: empty, damaged, too large. Or an `Idempotency-Key` of another request.",
    429: "Too many requests; wait as many seconds as `Retry-After` says.",
    503: "Something we need is away; try again after `Retry-After` seconds.",
}


class ProblemSerializer(serializers.Serializer[Any]):
    """What went wrong. `code` is stable; docs/api.md lists them all."""

    type = serializers.CharField(help_text="urn:visearch:problem: and the code.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField(help_text="What happened and what to do.")
    errors = serializers.DictField(  # type: ignore[assignment]  # output only: its own errors are never asked for
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Field name to messages (code invalid).",
    )
    limit = serializers.IntegerField(required=False, help_text="The limit that was hit.")
    actual = serializers.IntegerField(required=False, help_text="What was sent.")
    line = IntakeLineSerializer(required=False, help_text="The intake line of a refused upload.")


def problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    """Error responses of an operation, for extend_schema."""
    return {
        (status, PROBLEM_JSON): OpenApiResponse(ProblemSerializer, description=_MEANINGS[status]) for status in statuses
    }
