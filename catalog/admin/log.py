"""The log of all that users changed, by whatever door. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from catalog.admin.base import CatalogAdmin
from catalog.records import ReadOnly


@admin.register(LogEntry)
class LogAdmin(ReadOnly, CatalogAdmin):
    list_display = ("action_time", "user", "kind", "thing", "what")
    list_display_links = None
    list_filter = ("action_flag", ("user", admin.RelatedOnlyFieldListFilter), "content_type")
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "change_message", "user__username", "=object_id")
    search_help_text = "name or key of what was changed, words of the change, user"
    date_hierarchy = "action_time"
    list_per_page = 100
    ordering = ("-action_time", "-id")

    @admin.display(description="kind", ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else ""

    @admin.display(description="which", ordering="object_repr")
    def thing(self, entry: LogEntry) -> str:
        url = _address(entry)
        return format_html('<a href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr

    @admin.display(description="what")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message() or entry.get_action_flag_display()


def _address(entry: LogEntry) -> str:
    """Of its page in the admin; empty where it is deleted or has none."""
    if entry.is_deletion() or entry.content_type is None:
        return ""
    kind = entry.content_type
    try:
        return reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[entry.object_id])
    except NoReverseMatch:
        return ""
