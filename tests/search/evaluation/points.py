"""Labelled vectors made up for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from search.evaluation.labelled import Item, Labelled, LabelsAre, Missed, Reading


def labelled(vectors: Sequence[Sequence[float]], labels: Sequence[str], prefix: str = "image") -> Labelled:
    """Each vector of a file of its own, called ``prefix`` and its number."""
    names = [f"{prefix}-{number}" for number in range(len(labels))]
    items = [Item(name, name, label, sha256_of(name)) for name, label in zip(names, labels, strict=True)]
    dimension = len(vectors[0]) if vectors else 1
    return Labelled(np.array(vectors, np.float32).reshape(len(labels), dimension), tuple(items))


def clouds(labels: int, each: int, spread: float, prefix: str = "image", seed: int = 3) -> Labelled:
    """``each`` points of 8 numbers around one centre for each label; the centres do not depend on ``seed``."""
    centres = np.random.default_rng(0).normal(size=(labels, 8))
    noise = np.random.default_rng(seed).normal(size=(labels, each, 8)) * spread
    names = [f"label {label}" for label in range(labels) for _ in range(each)]
    return labelled((centres[:, None] + noise).reshape(-1, 8).tolist(), names, prefix)


def reading(of: Labelled, what: str = "the folder photos", missed: Sequence[str] = ()) -> Reading:
    """``missed``: paths of images in which nothing was found, as "label/name"."""
    without = tuple(Missed(path, path.rpartition("/")[0]) for path in missed)
    return Reading(what, LabelsAre.FOLDERS, len(of) + len(missed), of, without)


def sha256_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
