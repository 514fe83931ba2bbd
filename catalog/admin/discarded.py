"""Files that somebody discarded for an image that they look like. Deleting such a record lets the file in again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from catalog.admin.base import CatalogAdmin, user_of
from catalog.models import Collection, DiscardedFile
from catalog.records import ReadOnly


@admin.register(DiscardedFile)
class DiscardedFileAdmin(ReadOnly, CatalogAdmin):
    """For those who may decide about near duplicates, in the collections that they edit."""

    list_display = ("name", "instead", "collection", "discarded_by", "created_at")
    list_display_links = None
    list_select_related = ("kept__collection", "discarded_by")
    search_fields = ("name", "=sha256")
    search_help_text = "name of the file, its sha256"
    list_per_page = 100
    ordering = ("-created_at", "-id")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("catalog.change_image"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("catalog.delete_image"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[DiscardedFile]:
        rows: QuerySet[DiscardedFile] = super().get_queryset(request)
        return rows.filter(kept__collection__in=Collection.objects.editable_by(user_of(request)))

    @admin.display(description="collection")
    def collection(self, row: DiscardedFile) -> str:
        return row.kept.collection.name

    @admin.display(description="kept instead")
    def instead(self, row: DiscardedFile) -> str:
        return format_html('<a href="{}">{}</a>', reverse("admin:catalog_image_change", args=[row.kept_id]), row.kept)
