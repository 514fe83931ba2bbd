"""Addresses of files of images."""

from __future__ import annotations

from django.urls import path

from catalog.api.files import OriginalView, RenditionView

urlpatterns = [
    path("images/<uuid:pk>/rendition/<int:size>.webp", RenditionView.as_view(), name="image-rendition"),
    path("images/<uuid:pk>/original", OriginalView.as_view(), name="image-original"),
]
