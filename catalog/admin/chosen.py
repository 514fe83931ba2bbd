"""What an action with a page in between acts on: what that page showed, whatever arrives or changes meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest

from catalog.models import Image
from catalog.querysets import ImageQuerySet

CHANGED = "Other images match by now. Look at the number again before you go on."


@dataclass(frozen=True, slots=True)
class Chosen:
    """The images of an action. ``newest`` and ``seen`` travel in the form: up to which id was looked, and at what.

    ``is_as_shown``: these are the very images that the page in between was about.
    """

    images: ImageQuerySet
    count: int
    newest: str
    seen: str
    is_as_shown: bool


def chosen(request: HttpRequest, matching: ImageQuerySet) -> Chosen:
    """Of all that match now, where all were chosen, those that were there when the page in between was made.

    Ids grow with time, so what was put in since is newer than the newest one shown and is left out.
    """
    keys = sorted(set(matching.order_by().values_list("pk", flat=True)))
    if "apply" not in request.POST or request.POST.get("select_across") != "1":
        return _chosen(keys, is_as_shown=True)
    shown = [key for key in keys if str(key) <= request.POST.get("newest", "")]
    if _digest(shown) == request.POST.get("seen"):
        return _chosen(shown, is_as_shown=True)
    return _chosen(keys, is_as_shown=False)


def hidden_values(request: HttpRequest, images: Chosen) -> list[tuple[str, str]]:
    """What the page in between sends back, as names and values."""
    across = request.POST.get("select_across") == "1"
    boxes = request.POST.getlist(ACTION_CHECKBOX_NAME)
    values = [(ACTION_CHECKBOX_NAME, box) for box in (boxes[:1] if across else boxes)]
    values.append(("select_across", "1" if across else "0"))
    return [*values, ("newest", images.newest), ("seen", images.seen)] if across else values


def _chosen(keys: Sequence[UUID], *, is_as_shown: bool) -> Chosen:
    newest = str(keys[-1]) if keys else ""
    return Chosen(Image.objects.filter(pk__in=keys), len(keys), newest, _digest(keys), is_as_shown)


def _digest(keys: Sequence[UUID]) -> str:
    return sha256("\n".join(map(str, keys)).encode()).hexdigest()
