"""What a sample is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from catalog.uploads import ImageFacts


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to put in. ``name`` is unique in its set; ``content`` draws or reads the file's bytes when called."""

    name: str
    facts: ImageFacts
    content: Callable[[], bytes]
    person_name: str = ""


class SamplesMissing(Exception):
    """The samples are not on this machine; the message says how to get them."""
