"""What all pages of the catalogue in the admin have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin

NONE = "-"  # in a column of figures: there is none, and nothing to look at


class CatalogAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """What a user may not see does not exist: 404, where Django would send them to the start page with a message."""

    list_filter_sheet = True
    show_facets = admin.ShowFacets.NEVER  # counts for every entry of every menu
    warn_unsaved_form = True

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        raise Http404(f"There is no {opts.verbose_name} {object_id}, or you may not see it.")


class ReadOnly(CatalogAdmin):
    """Records: nobody writes them by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def moment(when: datetime) -> SafeString:
    return format_html('<time datetime="{}">{}</time>', when.isoformat(), f"{localtime(when):%Y-%m-%d %H:%M}")
