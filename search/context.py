"""What every template of the page may need."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse

from catalog.vision import registry

MEGABYTE = 1024 * 1024


def upload_limit(request: HttpRequest) -> dict[str, int]:
    """So that a browser can refuse a file that is too large before it is sent."""
    most = registry.limits().bytes
    return {"most_bytes": most, "most_mb": most // MEGABYTE}


def here(request: HttpRequest) -> dict[str, str]:
    """Where signing in and choosing a language lead back to; a view whose answer has another address says it itself."""
    return {"here": request.get_full_path() if request.method == "GET" else reverse("page")}
