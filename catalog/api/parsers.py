"""Reading JSON bodies with a limit: Django's own limit covers forms, and nothing bounds what a JSON parser reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser


class BodyTooLarge(APIException):
    """A JSON body beyond DATA_UPLOAD_MAX_MEMORY_SIZE; it is not read."""

    status_code = 413
    default_code = "body-too-large"

    def __init__(self, limit: int, actual: int) -> None:
        super().__init__(f"The body has {actual:,} bytes, {limit:,} are the most it may have. Send less at once.")
        self.limits = {"limit": limit, "actual": actual}


class BoundedJSONParser(JSONParser):
    """JSONParser that refuses large bodies (BodyTooLarge) and answers bottomless nesting with ParseError."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        size = _content_length(parser_context or {})
        if limit is not None and size > limit:
            raise BodyTooLarge(limit, size)
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error


def _content_length(parser_context: Mapping[str, Any]) -> int:
    try:
        return int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
    except (KeyError, ValueError):
        return 0
