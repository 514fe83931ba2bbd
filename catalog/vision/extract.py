"""From a decoded image to its regions and their vectors: the one path that both ingest and query take."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage

from catalog.vision import preprocess, registry
from catalog.vision.errors import ImageRefused, ModelFailed
from catalog.vision.types import Box, DecodedImage, Detection, ExtractedRegion, Extraction, ImageHeader, Point

logger = logging.getLogger(__name__)

BATCH = 16  # crops embedded at once, of one image or of several
LANDMARKS = 5  # of a face, see catalog.vision.types.Detection

Choice = Mapping[str, Sequence[str]]  # pipeline name to the names of the embedders to run
Vectors = dict[str, NDArray[np.float32]]  # embedder name to vector


def extract(image: DecodedImage, pipelines: Sequence[str], embedders: Choice | None = None) -> Extraction:
    """The regions of ``image`` for ``pipelines``, each with a vector of each of the pipeline's chosen ``embedders``.

    Where ``embedders`` does not name a pipeline, the first one of its settings runs; an empty list there runs none.
    Boxes lie inside the oriented original, in its pixels. Raises UnknownPipeline for a name that is not in the
    settings, ModelUnavailable where a network's files are missing or altered, ImageRefused (no-embedding) where an
    embedder gives no finite numbers for a crop of the image while it does for noise.
    """
    return extract_many([(image, pipelines)], embedders)[0]


def extract_many(
    images: Iterable[tuple[DecodedImage, Sequence[str]]], embedders: Choice | None = None
) -> list[Extraction]:
    """`extract` for several images with the pipelines of each, in their order; crops share batches across images.

    ``images`` is taken one at a time: given a generator that decodes, one image's pixels are held at once.
    """
    batches = _Batches()
    extractions = []
    for image, pipelines in images:
        regions = [
            _region(image, pipeline, detection, embedders, batches)
            for pipeline, detections in _detect(image, pipelines).items()
            for detection in detections
        ]
        extractions.append(Extraction(image.header.width, image.header.height, tuple(regions)))
    batches.finish()
    return extractions


def embed_regions(
    image: DecodedImage, pipeline: str, detections: Sequence[Detection], embedders: Choice | None = None
) -> tuple[ExtractedRegion, ...]:
    """Vectors for regions already known (drawn by hand, or found earlier), in their order; nothing is detected.

    ``detections`` are in pixels of the oriented original. Raises as `extract` does.
    """
    return embed_regions_of_many([(image, pipeline, detections)], embedders)[0]


def embed_regions_of_many(
    images: Iterable[tuple[DecodedImage, str, Sequence[Detection]]], embedders: Choice | None = None
) -> list[tuple[ExtractedRegion, ...]]:
    """`embed_regions` for several images, in their order; batches and pixels as in `extract_many`."""
    batches = _Batches()
    found = [
        tuple(_region(image, pipeline, detection, embedders, batches) for detection in detections)
        for image, pipeline, detections in images
    ]
    batches.finish()
    return found


def warm_up(pipeline: str, embedders: Choice | None = None) -> None:
    """Load the networks of ``pipeline`` and run them once on noise, so that no image has to wait for that.

    ``embedders`` as in `extract`, which raises the same.
    """
    side = 160
    header = ImageHeader("PNG", side, side, frames=1, orientation=1, taken_at=None)
    image = DecodedImage(_noise((side, side)), header)
    _detect(image, [pipeline])
    embed_regions(image, pipeline, [Detection(Box(0, 0, side, side), 1.0)], embedders)


def _detect(image: DecodedImage, pipelines: Sequence[str]) -> dict[str, list[Detection]]:
    """Pipeline to its detections in original pixels. The small copy and each detector's answer are shared."""
    small = preprocess.capped(image.pixels, preprocess.DETECTION_SIDE)
    detectors = {name: registry.pipeline(name).detector for name in pipelines}
    found = {name: registry.detector(name).detect(small) for name in dict.fromkeys(detectors.values())}
    placed = {name: _usable(name, detections, small, image) for name, detections in found.items()}
    return {pipeline: placed[detector] for pipeline, detector in detectors.items()}


def _usable(detector: str, detections: Sequence[Detection], small: PILImage, image: DecodedImage) -> list[Detection]:
    """``detections`` in pixels of the original, without what breaks the contract of detectors, which the log tells.

    Left out is a box that is not finite or has no area in the frame, and one whose score is no number. Landmarks that
    are not five finite points are forgotten.
    """
    placed = []
    for detection in detections:
        moved = _in_original(_with_points(detector, detection), small, image) if _is_finite(detection) else None
        if moved is not None and moved.box.area > 0:
            placed.append(moved)
        else:
            logger.warning("%s: a detection without an area in the image is left out: %s", detector, detection)
    return placed


def _is_finite(detection: Detection) -> bool:
    box = detection.box
    return all(map(isfinite, (box.x, box.y, box.width, box.height, detection.score)))


def _with_points(detector: str, detection: Detection) -> Detection:
    points = detection.landmarks
    if points is None or (len(points) == LANDMARKS and all(isfinite(x) and isfinite(y) for x, y in points)):
        return detection
    logger.warning("%s: landmarks that are not five finite points are forgotten: %s", detector, detection)
    return replace(detection, landmarks=None)


def _in_original(detection: Detection, small: PILImage, image: DecodedImage) -> Detection:
    """From pixels of the small copy to pixels of the original, each axis by its own factor (sides were rounded)."""
    width, height = image.header.width, image.header.height
    x_factor, y_factor = width / small.width, height / small.height

    def moved(x: float, y: float) -> Point:
        return round(x * x_factor, 3), round(y * y_factor, 3)

    left, top = moved(detection.box.x, detection.box.y)
    right, bottom = moved(detection.box.right, detection.box.bottom)
    landmarks = detection.landmarks and tuple(moved(x, y) for x, y in detection.landmarks)
    box = Box(left, top, right - left, bottom - top).clipped(width, height)
    return Detection(box, min(max(detection.score, 0.0), 1.0), landmarks)


def _region(
    image: DecodedImage, pipeline: str, detection: Detection, embedders: Choice | None, batches: _Batches
) -> ExtractedRegion:
    """The region, whose vectors arrive when its crops' batches are run."""
    vectors: Vectors = {}
    for base, names in _by_base(_chosen(pipeline, embedders)).items():
        batches.add(base, registry.embedder(base).crop(image, detection), names, vectors)
    return ExtractedRegion(pipeline, detection, vectors)


def _chosen(pipeline: str, embedders: Choice | None) -> Sequence[str]:
    known = registry.pipeline(pipeline).embedders
    return embedders[pipeline] if embedders and pipeline in embedders else known[:1]


def _by_base(names: Sequence[str]) -> dict[str, list[str]]:
    """The embedders that share a base (each crop and run of it) together; one that was not taught is its own base."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[registry.base_of(name)].append(name)
    return groups


class _Batches:
    """Crops waiting for each base embedder: the names of the vectors wanted of each, and the dict that they go to."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[PILImage, Sequence[str], Vectors]]] = defaultdict(list)

    def add(self, base: str, crop: PILImage, names: Sequence[str], vectors: Vectors) -> None:
        self._waiting[base].append((crop, names, vectors))
        if len(self._waiting[base]) == BATCH:
            self._run(base)

    def finish(self) -> None:
        for base in self._waiting:
            self._run(base)

    def _run(self, base: str) -> None:
        waiting, self._waiting[base] = self._waiting[base], []
        crops = [crop for crop, _, _ in waiting]
        wanted = list(dict.fromkeys(name for _, names, _ in waiting for name in names))
        try:
            computed = _computed(base, crops, wanted)
        except ModelFailed:
            computed = _one_by_one(base, crops, wanted)
        for number, (_, names, vectors) in enumerate(waiting):
            vectors.update({name: computed[name][number].copy() for name in names})


def _computed(base: str, crops: Sequence[PILImage], names: Sequence[str]) -> Vectors:
    """Embedder name to its vectors, float32 (crops, dimension). Raises ModelUnavailable."""
    rows = registry.embedder(base).embed(crops)
    return {name: rows if name == base else registry.derived_embedder(name).from_base(rows) for name in names}


def _one_by_one(base: str, crops: Sequence[PILImage], names: Sequence[str]) -> Vectors:
    """`_computed` for crops of which the network failed together.

    Raises ImageRefused where it fails for one of them and not for noise, ModelFailed where it does for noise as well:
    then nothing is wrong with the image.
    """
    found = []
    for crop in crops:
        try:
            found.append(_computed(base, [crop], names))
        except ModelFailed as error:
            _computed(base, [_noise(crop.size)], names)
            logger.warning("%s gives nothing usable for a crop: %s", base, error)
            raise ImageRefused(
                "no-embedding",
                f"The embedding model {error.name} gives no usable numbers for this image: it may be all of one "
                "colour. Take another image, or let another model serve.",
            ) from error
    return {name: np.concatenate([vectors[name] for vectors in found]) for name in names}


def _noise(size: tuple[int, int]) -> PILImage:
    """RGB, always the same."""
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
