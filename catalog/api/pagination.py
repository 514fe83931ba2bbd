"""Pages by cursor, newest first: keys are UUIDv7, so the order of ids is the order of time and no page ever shifts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

MOST_DIGITS = 9  # of a number that is worth converting


class IdCursorPagination(CursorPagination):
    """``cursor`` from the links of a page, ``page_size`` from 1 to 100 (50 when not given)."""

    ordering = "-id"
    page_size = 50
    max_page_size = 100
    page_size_query_param = "page_size"
    page_size_query_description = "Results in a page, 1 to 100."

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("page_size", str(self.page_size))
        size = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= MOST_DIGITS else 0
        if not 1 <= size <= self.max_page_size:
            raise ValidationError({"page_size": [f"Give a number from 1 to {self.max_page_size}."]})
        return size

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor: Any = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                UUID(cursor.position)
            except ValueError as error:
                raise ValidationError({"cursor": ["Take the cursor from the links of a page."]}) from error
        return cursor  # type: ignore[no-any-return]


class OldestFirst(IdCursorPagination):
    """The same in the order in which they came."""

    ordering = "id"
