"""Training in a process of its own, which alone loads TensorFlow: arrays go and come as files of a temporary folder."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.vision.heads import Taught
from search.engines.child import run_child
from search.engines.errors import BuildFailed
from search.evaluation.metrics import codes_of
from search.teaching.errors import TeachingFailed, TeachingRefused

CHILD = "search.teaching.child"
INPUT, OUTPUT = "job-{}.npz", "learned-{}-{}.npz"
STAGES = ("at its start", "trained")  # of a head, see search.teaching.child
WITHOUT_TENSORFLOW = (
    "Teaching needs TensorFlow, which is not installed here: pip install -r requirements/tensorflow.txt"
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """``vectors`` float32 (n, d) of the base, as stored, with the class of each."""

    vectors: NDArray[np.float32]
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class Learned:
    """What each lesson gave, in their order, at each of the STAGES, and the versions of the libraries."""

    heads: tuple[tuple[Taught, ...], ...]
    libraries: dict[str, str]


Trainer = Callable[[Sequence[Lesson], int], Learned]  # lessons and a seed


def train(lessons: Sequence[Lesson], seed: int) -> Learned:
    """Heads for each lesson; the same lessons and seed give the same heads on the same machine.

    Raises TeachingRefused without TensorFlow, TeachingFailed with the words of the process that failed.
    """
    if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("keras") is None:
        raise TeachingRefused(WITHOUT_TENSORFLOW)
    with tempfile.TemporaryDirectory(prefix="visearch-teach-") as name:
        folder = Path(name)
        for number, lesson in enumerate(lessons):
            np.savez(folder / INPUT.format(number), vectors=lesson.vectors, classes=codes_of(lesson.labels))
        try:
            answer = run_child(CHILD, folder, {"jobs": len(lessons), "seed": seed})
        except BuildFailed as error:
            raise TeachingFailed(str(error)) from error
        heads = (
            tuple(_read(folder / OUTPUT.format(number, stage)) for stage in range(len(STAGES)))
            for number in range(len(lessons))
        )
        return Learned(tuple(heads), _strings(answer))


def _read(path: Path) -> Taught:
    with np.load(path, allow_pickle=False) as arrays:
        taught = Taught(arrays["projection"], arrays["mean"])
    if not (np.isfinite(taught.projection).all() and np.isfinite(taught.mean).all()):
        raise TeachingFailed("Training gave numbers that are not finite. Are there broken vectors among the labelled?")
    return taught


def _strings(answer: dict[str, Any]) -> dict[str, str]:
    return {name: str(version) for name, version in answer.items()}
