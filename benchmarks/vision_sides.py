"""One side of `benchmarks.vision` in a process of its own: `python -m benchmarks.vision_sides SIDE ...`

WEIGHTS is the resnet50's .h5 file, SHA256 its hash. Reads ``faces`` (find them) or ``vectors`` (find, crop and embed
them) from stdin, a line each, does that with all files from the bytes on disk (decoding is part of both jobs), and
prints a line of JSON: seconds, faces, and the largest memory this process had so far (MB).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIDE_PX = 640  # the longest side that detectors see
MIN_FACE_PX = 20
BATCH = 16


class Side(Protocol):
    """Both return how many faces there are in all files."""

    def faces(self, files: Sequence[Path]) -> int: ...
    def vectors(self, files: Sequence[Path]) -> int: ...


class Article:
    """mtcnn and keras-vggface's resnet50, both on TensorFlow, used as the article does, but faces in batches."""

    def __init__(self, weights: str, sha256: str) -> None:
        from catalog.vision.originals.programs.vggface_tensorflow import load

        self._embed = load(["resnet50", weights, sha256])["embed"]
        from mtcnn import MTCNN  # after keras-vggface's stand-ins, so that both run on the same Keras

        self._detector = MTCNN()  # at its own thresholds

    def faces(self, files: Sequence[Path]) -> int:
        return sum(len(self._detect(self._read(file))) for file in files)

    def vectors(self, files: Sequence[Path]) -> int:
        crops: list[NDArray[np.uint8]] = []
        count = 0
        for file in files:
            pixels = self._read(file)
            crops += [self._crop(pixels, face["box"]) for face in self._detect(pixels)]
            while len(crops) >= BATCH:
                count += self._run(crops[:BATCH])
                crops = crops[BATCH:]
        return count + (self._run(crops) if crops else 0)

    def _read(self, file: Path) -> NDArray[np.uint8]:
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        image.thumbnail((SIDE_PX, SIDE_PX))
        return np.asarray(image)

    def _detect(self, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._detector.detect_faces(pixels, min_face_size=MIN_FACE_PX)
        return found

    def _crop(self, pixels: NDArray[np.uint8], box: Sequence[int]) -> NDArray[np.uint8]:
        left, top, width, height = box
        face = Image.fromarray(pixels[top : top + max(height, 1), left : left + max(width, 1)])
        return np.asarray(face.resize((224, 224)))

    def _run(self, crops: list[NDArray[np.uint8]]) -> int:
        return len(self._embed(crops=np.stack(crops))["vectors"])


class Ours:
    """`extract_many` in as many lanes as there are cores, each network on one thread, as a worker process works."""

    def __init__(self, embedder: str, sha256: str, min_face_px: int) -> None:
        import django

        os.environ |= {"DJANGO_SETTINGS_MODULE": "visearch_site.settings", "VISEARCH_THREADS": "1"}
        django.setup()
        from django.conf import settings

        from catalog.vision import registry
        from catalog.vision.cores import usable_cores
        from catalog.vision.extract import warm_up

        settings.VISEARCH_DETECTORS["mtcnn"]["OPTIONS"] = {"min_face_px": min_face_px}  # thresholds as the package's
        settings.VISEARCH_EMBEDDERS["vggface2-resnet50"]["OPTIONS"] = {"sha256": sha256}
        settings.VISEARCH_PIPELINES = {"face": {"DETECTOR": "mtcnn", "EMBEDDERS": [embedder]}}
        self._lanes = usable_cores()
        self._registry = registry
        warm_up("face")

    def faces(self, files: Sequence[Path]) -> int:
        return self._in_lanes(files, self._find)

    def vectors(self, files: Sequence[Path]) -> int:
        return self._in_lanes(files, self._extract)

    def _in_lanes(self, files: Sequence[Path], work: Callable[[Sequence[Path]], int]) -> int:
        with ThreadPoolExecutor(self._lanes) as pool:
            return sum(pool.map(work, [files[lane :: self._lanes] for lane in range(self._lanes)]))

    def _find(self, files: Sequence[Path]) -> int:
        from catalog.vision import preprocess

        detector = self._registry.detector("mtcnn")
        return sum(len(detector.detect(preprocess.capped(self._read(file).pixels, SIDE_PX))) for file in files)

    def _extract(self, files: Sequence[Path]) -> int:
        from catalog.vision.extract import extract_many

        extractions = extract_many((self._read(file), ["face"]) for file in files)
        return sum(len(extraction.regions) for extraction in extractions)

    def _read(self, path: Path) -> Any:
        from catalog.vision.decode import read_image

        with path.open("rb") as file:
            return read_image(file, path.name, self._registry.limits())


SIDES: dict[str, Callable[[str, str], Side]] = {
    "article": Article,
    "resnet50": lambda _, sha256: Ours("vggface2-resnet50", sha256, MIN_FACE_PX),
    "default": lambda _, sha256: Ours("dlib-resnet", sha256, MIN_FACE_PX),
    "default-40": lambda _, sha256: Ours("dlib-resnet", sha256, 40),
}


def peak_memory() -> float:
    """The largest resident memory of this process so far, MB. Not ru_maxrss: it begins as the parent's at the fork."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    name, sha256, weights, *files = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print
    side = SIDES[name](weights, sha256)
    paths = [Path(file) for file in files]
    print("ready", file=answers)
    for line in sys.stdin:
        work = {"faces": side.faces, "vectors": side.vectors}[line.strip()]
        start = time.perf_counter()
        faces = work(paths)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "faces": faces, "memory": peak_memory()}), file=answers)


if __name__ == "__main__":
    main()
