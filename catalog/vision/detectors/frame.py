"""The whole image as its one region."""

from __future__ import annotations

from typing import ClassVar

from PIL.Image import Image as PILImage

from catalog.vision import cards
from catalog.vision.cards import Context, NoOptions
from catalog.vision.types import Box, Detection


class Frame:
    CARD = cards.FRAME
    VERSION: ClassVar[str] = CARD.version

    def __init__(self, context: Context, options: NoOptions) -> None:
        pass

    def detect(self, image: PILImage) -> list[Detection]:
        """One box, the frame, with score 1."""
        return [Detection(Box(0.0, 0.0, float(image.width), float(image.height)), 1.0)]
