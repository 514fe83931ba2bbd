"""What the settings say of a network that somebody else exported: everything that its file does not.

Every field is an option of catalog.vision.embedders.onnx_file.OnnxEmbedder. Nothing that changes a vector is guessed:
what has no default must be said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from catalog.vision.types import Point

# Five landmarks (left eye, right eye, nose, mouth corners) as x, y in pixels of a 112 px chip: insightface,
# python-package/insightface/utils/face_align.py (arcface_src; arcface_dst in later versions).
TEMPLATES: dict[str, tuple[Point, ...]] = {
    "arcface-112": ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
}
_TEMPLATE_SIDES = {"arcface-112": 112}
LAYOUTS, COLOURS, CROPS, FITS = ("NCHW", "NHWC"), ("RGB", "BGR"), ("aligned", "box", "frame"), ("cover", "stretch")
RESAMPLINGS = ("bilinear", "bicubic", "lanczos", "box")
SCALES = (1, 255)
_LARGEST_SIDE, _LARGEST_DIMENSION = 2_048, 16_384
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOptions:
    """The file, what goes into it, what comes out, and whose it is. Raises ValueError that names the option.

    ``path``, ``sha256``: the file, absolute or below VISEARCH_MODELS_DIR, at one content (64 hexadecimal digits).
    ``input_size``: width and height in pixels of a crop, or one number for both. ``layout``: "NCHW" or "NHWC".
    ``colour``: "RGB" or "BGR", the order of the network's channels, of ``mean`` and of ``std``.
    ``scale``: 255 where mean and std are of pixels from 0 to 255, 1 where they are of pixels from 0 to 1.
    ``mean``, ``std``: three numbers or one; the network gets (pixel - mean) / std.
    ``crop``: "aligned" moves a face's five landmarks onto ``template``, which is "arcface-112" or five points in pixels
    of the crop. "box" takes the region, grown by the share ``margin`` of its width and height (0.3: half of that beyond
    each side). "frame" takes the region as it is, which is the whole image where the detector is `frame`. Both are then
    made to fit by ``fit``: "cover" resizes the shorter side to ``short_side`` pixels (the crop's own where it is not
    given) and takes the middle, "stretch" resizes both sides; ``resampling`` is "bilinear", "bicubic" (the default),
    "lanczos" or "box".
    ``output``: its name, where the network has several; of shape (n, ``dimension``). ``normalise``: make each vector a
    unit vector. ``licence`` and ``source`` (an address) are shown.
    """

    path: str
    sha256: str
    dimension: int
    input_size: tuple[int, int]
    scale: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str
    layout: str = "NCHW"
    colour: str = "RGB"
    template: tuple[Point, ...] = ()
    margin: float = 0.0
    fit: str = "cover"
    short_side: int = 0
    resampling: str = "bicubic"
    output: str = ""
    normalise: bool = False
    licence: str = "not stated"
    source: str = ""

    def __post_init__(self) -> None:
        self._check_file()
        self._check_input()
        self._check_crop()
        self._check_template()
        for name in ("output", "source", "licence"):
            _require(name, isinstance(getattr(self, name), str), "must be a text", getattr(self, name))
        _require("licence", 0 < len(self.licence) <= 200, "must have 1 to 200 characters", self.licence)
        _require("source", len(self.source) <= 500, "may have 500 characters at most", self.source)
        _require("normalise", isinstance(self.normalise, bool), "must be true or false", self.normalise)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_file(self) -> None:
        _require("path", isinstance(self.path, str) and self.path.strip() != "", "must name the file", self.path)
        is_hash = isinstance(self.sha256, str) and bool(_SHA256.fullmatch(self.sha256.lower()))
        _require("sha256", is_hash, "must have 64 hexadecimal digits (`sha256sum FILE` shows them)", self.sha256)
        self._set("sha256", self.sha256.lower())
        limits = f"must be a whole number from 1 to {_LARGEST_DIMENSION}"
        _require("dimension", _is_whole(self.dimension, _LARGEST_DIMENSION), limits, self.dimension)

    def _check_input(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _one_of("colour", self.colour, COLOURS)
        size: Any = self.input_size
        sides = (size, size) if _is_whole(size, _LARGEST_SIDE) else size
        fine = _is_list(sides, 2) and all(_is_whole(side, _LARGEST_SIDE) for side in sides)
        _require("input_size", fine, f"must be a side or [width, height], 1 to {_LARGEST_SIDE} pixels", size)
        self._set("input_size", tuple(sides))
        _one_of("scale", self.scale, SCALES)
        for name in ("mean", "std"):
            self._set(name, _three(name, getattr(self, name)))
        _require("std", min(self.std) > 0, "must be above 0", self.std)
        # Of pixels from 0 to 1 no mean or deviation is above 1; from 0 to 255 no deviation of real images is below.
        other = 255 if max(*map(abs, self.mean), *self.std) > 1 else 1
        fits = other == self.scale or (self.scale == 255 and max(self.std) == 1)
        _require("scale", fits, f"is {other} for a mean of {self.mean} and a std of {self.std}, not", self.scale)

    def _check_crop(self) -> None:
        _one_of("crop", self.crop, CROPS)
        _one_of("fit", self.fit, FITS)
        _one_of("resampling", self.resampling, RESAMPLINGS)
        margin = _is_number(self.margin) and 0 <= self.margin <= 4
        _require("margin", margin, "must be a number from 0 to 4", self.margin)
        least = min(self.input_size)
        short_side: Any = self.short_side or least
        fine = _is_whole(short_side, 2 * _LARGEST_SIDE) and short_side >= least
        _require("short_side", fine, f"must be a whole number of at least {least}, the crop's", self.short_side)
        self._belongs("template", self.crop == "aligned", "crop = 'aligned'")
        self._belongs("margin", self.crop == "box", "crop = 'box'")
        self._belongs("short_side", self.crop != "aligned" and self.fit == "cover", "fit = 'cover' of a box or frame")
        for name in ("fit", "resampling"):
            self._belongs(name, self.crop != "aligned", "crop = 'box' or 'frame'")
        self._set("short_side", short_side if self.crop != "aligned" and self.fit == "cover" else 0)

    def _belongs(self, name: str, fits: bool, to: str) -> None:
        """An option that would be ignored is a mistake."""
        default = next(field.default for field in fields(self) if field.name == name)
        value = getattr(self, name)
        _require(name, fits or value == default, f"belongs to {to} only, it is", value)

    def _check_template(self) -> None:
        if self.crop != "aligned":
            return
        width, height = self.input_size
        _require("input_size", width == height, "must be square where crop is 'aligned', not", self.input_size)
        template: Any = self.template
        if isinstance(template, str):
            _one_of("template", template, tuple(TEMPLATES))
            factor = width / _TEMPLATE_SIDES[template]
            template = [(round(x * factor, 4), round(y * factor, 4)) for x, y in TEMPLATES[template]]
        fine = _is_list(template, 5) and all(_is_list(point, 2) and all(map(_is_number, point)) for point in template)
        says = f"must be {' or '.join(map(repr, TEMPLATES))}, or five points [x, y] in pixels of the crop"
        _require("template", fine, says, template)
        self._set("template", tuple((float(x), float(y)) for x, y in template))
        inside = all(0 <= x <= width and 0 <= y <= height for x, y in self.template)
        apart = len(set(self.template)) == 5
        _require("template", inside and apart, f"must have five points apart, inside {width} x {height} px", template)


def _require(name: str, fine: bool, says: str, value: object) -> None:
    if not fine:
        joined = says if says.endswith(" not") or says.endswith("it is") else f"{says}, not"
        raise ValueError(f"{name} {joined} {value!r}")


def _one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """A member of ``allowed`` itself: True is not 1 here."""
    fine = any(value == each and type(value) is type(each) for each in allowed)
    _require(name, fine, f"must be {' or '.join(map(repr, allowed))}", value)


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _three(name: str, value: Any) -> tuple[float, float, float]:
    values = [value] * 3 if _is_number(value) else value
    fine = _is_list(values, 3) and all(map(_is_number, values))
    _require(name, fine, "must be three numbers, or one for all channels", value)
    return float(values[0]), float(values[1]), float(values[2])
