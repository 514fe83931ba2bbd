"""The distances that likeness is said by, *same* and *near* of a model, as far as they fit how it is searched now."""

from __future__ import annotations

from catalog.models import EmbeddingModel
from search.engines.registry import configured_index

Measured = tuple[float, float] | tuple[None, None]


def measured(model: EmbeddingModel, metric: str = "") -> Measured:
    """*same* and *near*; None and None where nobody measured them, or by another metric than ``metric``.

    ``metric``: that of the index where none is named. A distance of one metric says nothing in the other one: 0.6 by l2
    is the same person, by cosine anybody.
    """
    measured_by = model.evaluation.get("metric")
    if measured_by and measured_by != (metric or configured_index(model.pipeline).metric.value):
        return None, None
    if model.same_distance is None or model.near_distance is None:
        return None, None
    return model.same_distance, model.near_distance
