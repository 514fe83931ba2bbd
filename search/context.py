"""What every template of the page may need."""

from __future__ import annotations

from django.http import HttpRequest

from catalog.vision import registry

MEGABYTE = 1024 * 1024


def upload_limit(request: HttpRequest) -> dict[str, int]:
    """So that a browser can refuse a file that is too large before it is sent."""
    most = registry.limits().bytes
    return {"most_bytes": most, "most_mb": most // MEGABYTE}
