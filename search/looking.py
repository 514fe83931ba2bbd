"""Looking at a shopper's photo: what can be searched with, and a small copy to show in the answer. Nothing is kept."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import BinaryIO

from catalog.querysets import Viewer
from catalog.vision import helper, registry
from catalog.vision.types import DecodedImage
from search.querying import Query, read_query

PREVIEW_SIDE = 720  # pixels: a phone's width at twice its density, about 40 kB


@dataclass(frozen=True, slots=True)
class Looked:
    """``preview``: a data URI, which goes into the answer and nowhere else."""

    query: Query
    preview: str


def look_at(file: BinaryIO, name: str, viewer: Viewer) -> Looked:
    """Raises ImageRefused, ModelUnavailable, NoServingModel."""
    decoded = helper.read_image(file, name, registry.limits())
    return Looked(read_query(decoded, viewer), _data_uri(decoded))


def _data_uri(decoded: DecodedImage) -> str:
    from catalog.vision.renditions import render  # noqa: PLC0415 - OpenCV comes with the first photo, not the site

    data = render(decoded, (PREVIEW_SIDE,))[PREVIEW_SIDE]
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
