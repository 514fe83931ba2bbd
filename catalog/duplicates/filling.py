"""Perceptual hashes of images that were put in before there were any."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from catalog import storage
from catalog.exceptions import ImageRefused
from catalog.models import Image
from catalog.vision import registry
from catalog.vision.helper import inspect

PAGE = 100  # rows that are held at once


def fill(images: QuerySet[Image]) -> Iterator[tuple[Image, str]]:
    """Compute what ``images`` lack, by key; each as it is done, with what kept it from having a hash ("": nothing).

    From then on later images are compared with them. Safe to break off and to run twice at once. An image of one
    colour has none, and is looked at again by each run: nothing says of it that it was looked at.
    """
    lacking = images.filter(phash=None).only("id", "format", "title", "original_name").order_by("pk")
    page = list(lacking[:PAGE])
    while page:
        for image in page:
            yield image, _fill(image)
        page = list(lacking.filter(pk__gt=page[-1].pk)[:PAGE])


def _fill(image: Image) -> str:
    key = storage.original_key(image.pk, image.format)
    try:
        with storage.open_original(key) as file:
            seen = inspect(file, key, registry.limits())
    except (ImageRefused, OSError) as error:
        return str(error)
    if seen.phash is None:
        return "There is nothing to be seen in it."
    Image.objects.filter(pk=image.pk).update(phash=seen.phash, phash_mirrored=seen.phash_mirrored)
    return ""
