"""Whether one file is at fault, or the storage of originals: a volume that is not mounted is no reason to give up.

What is asked are a few other images: the oldest, the newest, and one from the middle of the time between. They lie in
folders of their own, and files that came in while a volume was not mounted are the newest.
"""

from __future__ import annotations

from uuid import UUID

from catalog import storage
from catalog.models import Image

AWAY = "The storage of originals is empty, or not there: mount it again."


def are_away() -> bool:
    """Whether nothing is there though images have files in it. Raises OSError."""
    return Image.objects.exists() and not storage.holds_originals()


def delete(key: str) -> None:
    """Nothing where it is gone already. Raises OSError, also where it is missing because everything is."""
    if not storage.has_original(key) and are_away():
        raise FileNotFoundError(AWAY)
    storage.delete_original(key)


def others_can_be_read(image: Image) -> bool:
    """Whether any of the others that were asked can be read; False where there are no others."""
    return any(_readable(_others(image)))


def others_are_there(image: Image) -> bool:
    """Whether most of the others that were asked can be read, or, where there are none, anything is there at all."""
    readable = _readable(_others(image))
    if readable:
        return 2 * sum(readable) > len(readable)
    try:
        return storage.holds_originals()
    except OSError:
        return False


def _others(image: Image) -> list[Image]:
    """Up to three, of images whose files ought to be there. Each is found by walking a few keys."""
    others = Image.objects.exclude(pk=image.pk).exclude(status=Image.Status.FAILED).only("format")
    oldest, newest = others.order_by("pk").first(), others.order_by("-pk").first()
    if oldest is None or newest is None:
        return []
    between = UUID(int=(oldest.pk.int + newest.pk.int) // 2)  # keys begin with the time
    middle = others.filter(pk__gte=between).order_by("pk").first()
    return list({each.pk: each for each in (oldest, middle, newest) if each is not None}.values())


def _readable(images: list[Image]) -> list[bool]:
    return [_can_be_read(storage.original_key(image.pk, image.format)) for image in images]


def _can_be_read(key: str) -> bool:
    try:
        with storage.open_original(key):
            return True
    except OSError:
        return False
