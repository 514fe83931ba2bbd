"""What all pages of the catalogue in the admin have in common."""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest
from unfold.admin import ModelAdmin

NOTHING_DONE = "Nothing was changed. Press the button once more."


class CatalogAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """What a user may not see does not exist: 404, where Django would send them to the start page with a message."""

    list_filter_sheet = True
    show_facets = admin.ShowFacets.NEVER  # counts for every entry of every menu
    warn_unsaved_form = True

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        raise Http404(f"There is no {opts.verbose_name} {object_id}, or you may not see it.")


def user_of(request: HttpRequest) -> User:
    """Of requests that have passed the admin's own door."""
    assert isinstance(request.user, User)
    return request.user


def uuid_of(text: str) -> UUID:
    """The nil UUID, which is the key of no row, for what is none."""
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)


def cleaned_text(text: str) -> str:
    return " ".join(text.replace("\0", "").split())
