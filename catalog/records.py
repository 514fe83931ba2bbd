"""What the admins of this app and of search share: records that nobody writes by hand, and how columns say it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

NONE = "-"  # in a column of figures: there is none, and nothing to look at


class ReadOnly:
    """Mixin for the admin of records: nobody writes them by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def moment(when: datetime) -> SafeString:
    return format_html('<time datetime="{}">{}</time>', when.isoformat(), f"{localtime(when):%Y-%m-%d %H:%M}")
