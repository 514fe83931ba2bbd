"""Taught heads without training: a projection drawn at random, kept as a file, and its row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catalog.embedding_models import serving_model
from catalog.models import EmbeddingModel
from catalog.vision import heads, registry
from catalog.vision.heads import Head, Taught
from search.teaching.training import Learned, Lesson

LEARNED = 3


def random_taught(dimension: int, seed: int = 1) -> Taught:
    random = np.random.default_rng(seed)
    projection = random.standard_normal((dimension, LEARNED)).astype(np.float32)
    return Taught(projection, np.full(dimension, 0.01, np.float32))


def keep_head(base: str = "image-colours", name: str = "colours-taught", weight: float = 0.3, seed: int = 1) -> Head:
    about = registry.describe(base)
    taught = random_taught(about.dimension, seed)
    return heads.keep(registry.models_dir(), name, (base, about.fingerprint), taught, weight)


def taught_model(pipeline: str = "image", passed: bool = True, seed: int = 1) -> EmbeddingModel:
    """The row of a new head on the model that serves."""
    base = serving_model(pipeline)
    base = base.derived_from or base
    about = registry.describe(keep_head(base.embedder, f"{pipeline}-taught", seed=seed).name)
    return EmbeddingModel.objects.create(
        pipeline=pipeline,
        embedder=about.name,
        fingerprint=about.fingerprint,
        dimension=about.dimension,
        licence=about.licence,
        source=about.source,
        derived_from=base,
        passed_gate=passed,
        teaching=teaching(passed),
    )


def teaching(passed: bool) -> dict[str, object]:
    """As search.teaching keeps it."""
    side = {"n": 40, "classes": 5, "before": {"p1": 0.7, "p10": 0.6}, "after": {"p1": 0.8, "p10": 0.75}}
    unseen = {**side, "n": 20, "classes": 2, "after": {"p1": 0.7, "p10": 0.6 if passed else 0.4}}
    return {
        "from": "labels",
        "collection": None,
        "seed": 0,
        "date": "2026-01-01",
        "counts": {"hat": 30, "shoe": 20},
        "taught_classes": ["hat"],
        "unseen_classes": ["shoe"],
        "examples": {"taught": 100, "held_out": 40, "unseen": 20},
        "left_out": {"the same file again": 3},
        "weight": 0.3,
        "metric": "cosine",
        "libraries": {"keras": "3.0"},
        "seconds": 1.5,
        "labels": side,
        "unseen": unseen,
        "allowed_loss": 0.01,
        "passed": passed,
        "decision": "It may serve: it is better." if passed else "It may not serve: it forgets what it never saw.",
    }


def discriminants(lessons: Sequence[Lesson], seed: int) -> Learned:
    """In place of training: Fisher's linear discriminants, which need no library and no time."""
    return Learned(tuple((_discriminants(lesson),) for lesson in lessons), {"numpy": np.__version__})


def _discriminants(lesson: Lesson) -> Taught:
    unit = lesson.vectors / np.linalg.norm(lesson.vectors, axis=1, keepdims=True)
    mean = unit.mean(axis=0)
    within = np.eye(unit.shape[1]) * 1e-3
    between = np.zeros_like(within)
    labels = np.array(lesson.labels)
    for label in sorted(set(lesson.labels)):
        mine = unit[labels == label]
        within += np.cov(mine.T, bias=True) * len(mine)
        difference = (mine.mean(axis=0) - mean)[:, None]
        between += len(mine) * difference @ difference.T
    values, vectors = np.linalg.eig(np.linalg.solve(within, between))
    best = np.argsort(-values.real)[: min(4, unit.shape[1] // 2)]
    return Taught(vectors[:, best].real.astype(np.float32), mean.astype(np.float32))
