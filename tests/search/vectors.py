"""Rows with vectors as processing leaves them, without processing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from catalog.models import Collection, Embedding, EmbeddingModel, Region
from tests.cast import make_face, make_image


def make_model(dimension: int = 2, **facts: Any) -> EmbeddingModel:
    defaults = {"pipeline": "face", "embedder": "tiny", "fingerprint": "f" * 64, "state": "serving"}
    return EmbeddingModel.objects.create(dimension=dimension, **{**defaults, **facts})


def embed(region: Region, model: EmbeddingModel, vector: Sequence[float]) -> Embedding:
    data = np.array(vector, dtype="<f4").tobytes()
    return Embedding.objects.create(region=region, model=model, dimension=len(vector), vector=data)


def store(collection: Collection, model: EmbeddingModel, *vectors: Sequence[float]) -> list[Embedding]:
    """An image with one region for each vector."""
    return [embed(make_face(make_image(collection), pipeline=model.pipeline), model, vector) for vector in vectors]
