"""Saving a form beside everybody else who writes the same row: workers, moves, deletions."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from catalog.admin.base import CatalogAdmin
from catalog.curation.errors import Gone


class SavesWhatChanged(CatalogAdmin):
    """Writes the columns that the form changed and no other, on a row that is locked and there."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)  # type: ignore[no-any-return]
        except Gone as gone:
            messages.error(request, str(gone))
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Raises Gone where the row went, or went out of the user's hands, since the form was loaded.

        Django runs it in the transaction of the whole request, which is then undone.
        """
        if not change:
            super().save_model(request, obj, form, change)
            return
        rows = self.model._default_manager.filter(pk=obj.pk)
        is_there = rows.select_for_update().values_list("pk").first() is not None
        if not is_there or not self.get_queryset(request).filter(pk=obj.pk).exists():
            name = self.opts.verbose_name
            raise Gone(f"Nothing was saved: the {name} was deleted meanwhile, or is no longer yours to change.")
        columns = {field.name for field in self.opts.concrete_fields}
        obj.save(update_fields=columns.intersection(form.changed_data))
