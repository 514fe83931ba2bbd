"""Addresses below /api/v1/."""

from __future__ import annotations

from django.urls import re_path

from search.api.views import SearchView

urlpatterns = [
    re_path(r"^search/?$", SearchView.as_view(), name="search"),
]
