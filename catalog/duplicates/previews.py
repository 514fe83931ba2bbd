"""A small copy of an image that waits for a choice: nothing has run on it, so none is kept."""

from __future__ import annotations

from catalog import storage
from catalog.models import Image
from catalog.vision import registry
from catalog.vision.helper import read_image

SIDE = min(storage.RENDITION_SIZES)


def preview(image: Image) -> bytes:
    """WebP, at most SIDE pixels on its longest side. Raises ImageRefused, and OSError where its file cannot be read."""
    from catalog.vision.renditions import render  # noqa: PLC0415 - OpenCV comes with the first image, not the site

    key = storage.original_key(image.pk, image.format)
    with storage.open_original(key) as file:
        return render(read_image(file, key, registry.limits()), [SIDE])[SIDE]
