"""What is computed and stored where a model serves: its vectors, and those of the model that it is derived from.

So the way back to a base is one row, complete at once, and a head can be taught on the base's vectors at any time; they
cost room and no time, since a taught model computes them anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog.models import EmbeddingModel


def lineage(model: EmbeddingModel) -> list[EmbeddingModel]:
    """The model that this one is derived from, where there is one, and itself; a base is derived from none."""
    return [model] if model.derived_from is None else [model.derived_from, model]


def embedders_of(models: Sequence[EmbeddingModel]) -> dict[str, list[str]]:
    """Pipeline to the names of the embedders to run (catalog.vision.extract.Choice)."""
    return {model.pipeline: [row.embedder for row in lineage(model)] for model in models}
