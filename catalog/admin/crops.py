"""A face as a window onto a rendition of its image: no file of its own, and seen by whoever may see the rendition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.urls import reverse

from catalog.models import Region
from catalog.storage import RENDITION_SIZES

MARGIN = 0.2  # of the box's longer side, around it
SHARP = 96  # pixels that the window should have in the rendition; else the next larger rendition is taken


@dataclass(frozen=True, slots=True)
class Crop:
    """What the template crop.html shows. ``view_box`` is in pixels of the oriented original: left, top, side, side."""

    region: Region
    href: str
    width: int
    height: int
    view_box: str

    @property
    def label(self) -> str:
        return str(self.region.person) if self.region.person else "A face without a name"


def crop_of(region: Region) -> Crop:
    image = region.image
    side = max(region.width, region.height) * (1 + 2 * MARGIN)
    left, top = region.x + (region.width - side) / 2, region.y + (region.height - side) / 2
    longest = max(image.width, image.height)
    sharp = [size for size in sorted(RENDITION_SIZES) if side * size / longest >= SHARP]
    size = sharp[0] if sharp else max(RENDITION_SIZES)
    return Crop(
        region,
        reverse("image-rendition", kwargs={"pk": image.pk, "size": size}),
        image.width,
        image.height,
        f"{left:.1f} {top:.1f} {side:.1f} {side:.1f}",
    )


def crops_of(regions: Iterable[Region]) -> list[Crop]:
    return [crop_of(region) for region in regions]
