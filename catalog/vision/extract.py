"""From a decoded image to its regions and their vectors: the one path that both ingest and query take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as PILImage

from catalog.vision import preprocess, registry
from catalog.vision.types import Box, DecodedImage, Detection, ExtractedRegion, Extraction, ImageHeader, Point

BATCH = 16  # crops embedded at once, of one image or of several

Choice = Mapping[str, Sequence[str]]  # pipeline name to the names of the embedders to run
Vectors = dict[str, NDArray[np.float32]]  # embedder name to vector


def extract(image: DecodedImage, pipelines: Sequence[str], embedders: Choice | None = None) -> Extraction:
    """The regions of ``image`` for ``pipelines``, each with a vector of each of the pipeline's chosen ``embedders``.

    Where ``embedders`` does not name a pipeline, the first one of its settings runs; an empty list there runs none.
    Boxes lie inside the oriented original, in its pixels. Raises UnknownPipeline for a name that is not in the
    settings, ModelUnavailable where a network's files are missing or altered.
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
    batches = _Batches()
    regions = tuple(_region(image, pipeline, detection, embedders, batches) for detection in detections)
    batches.finish()
    return regions


def warm_up() -> None:
    """Load every network of every pipeline and run it once on a black image, so that no image has to wait for that.

    Raises ModelUnavailable.
    """
    side = 160
    header = ImageHeader("PNG", side, side, frames=1, orientation=1, taken_at=None)
    black = DecodedImage(Image.new("RGB", (side, side)), header)
    for pipeline in registry.pipelines():
        _detect(black, [pipeline])
        embed_regions(black, pipeline, [Detection(Box(0, 0, side, side), 1.0)])


def _detect(image: DecodedImage, pipelines: Sequence[str]) -> dict[str, list[Detection]]:
    """Pipeline to its detections in original pixels. The small copy and each detector's answer are shared."""
    small = preprocess.capped(image.pixels, preprocess.DETECTION_SIDE)
    detectors = {name: registry.pipeline(name).detector for name in pipelines}
    found = {name: registry.detector(name).detect(small) for name in dict.fromkeys(detectors.values())}
    return {
        pipeline: [_in_original(detection, small, image) for detection in found[detector]]
        for pipeline, detector in detectors.items()
    }


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
    return Detection(box, detection.score, landmarks)


def _region(
    image: DecodedImage, pipeline: str, detection: Detection, embedders: Choice | None, batches: _Batches
) -> ExtractedRegion:
    """The region, whose vectors arrive when its crops' batches are run."""
    vectors: Vectors = {}
    for name in _chosen(pipeline, embedders):
        batches.add(name, registry.embedder(name).crop(image, detection), vectors)
    return ExtractedRegion(pipeline, detection, vectors)


def _chosen(pipeline: str, embedders: Choice | None) -> Sequence[str]:
    known = registry.pipeline(pipeline).embedders
    return embedders[pipeline] if embedders and pipeline in embedders else known[:1]


class _Batches:
    """Crops waiting for each embedder, with the dict that each one's vector goes to."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[PILImage, Vectors]]] = defaultdict(list)

    def add(self, embedder: str, crop: PILImage, vectors: Vectors) -> None:
        self._waiting[embedder].append((crop, vectors))
        if len(self._waiting[embedder]) == BATCH:
            self._run(embedder)

    def finish(self) -> None:
        for embedder in self._waiting:
            self._run(embedder)

    def _run(self, embedder: str) -> None:
        waiting, self._waiting[embedder] = self._waiting[embedder], []
        rows = registry.embedder(embedder).embed([crop for crop, _ in waiting])
        for (_, vectors), row in zip(waiting, rows, strict=True):
            vectors[embedder] = row.copy()
