"""Photos to search with, made of those in DATA: as a phone takes them, and small."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

PHONE = (4000, 3000)
SMALL_SIDE = 640
NOISE = 6.0  # standard deviation of the noise, of 255: a phone's photo has some, an enlarged one has none


def phone_photo(path: Path) -> bytes:
    """A JPEG of 12 megapixels: the middle of a photo in the shape of PHONE, enlarged, with noise."""
    photo = Image.open(path).convert("RGB")
    width, height = min(photo.width, photo.height * 4 // 3), min(photo.height, photo.width * 3 // 4)
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    large = photo.crop((left, top, left + width, top + height)).resize(PHONE, Image.Resampling.LANCZOS)
    noise = np.random.default_rng(1).normal(0, NOISE, (PHONE[1], PHONE[0], 3)).astype(np.float32)
    return _jpeg(Image.fromarray(np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)))


def small_photo(path: Path) -> bytes:
    """A JPEG with SMALL_SIDE pixels on its longer side."""
    photo = Image.open(path).convert("RGB")
    scale = SMALL_SIDE / max(photo.size)
    return _jpeg(photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS))


def _jpeg(photo: Image.Image) -> bytes:
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=90)
    return out.getvalue()
