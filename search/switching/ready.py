"""How ready a model is to serve: what it has, what it lacks, its index, and what somebody has to look after."""

from __future__ import annotations

from dataclasses import dataclass

from catalog import keeping
from catalog.embedding_models import check_may_serve, previous_model
from catalog.exceptions import CannotServe
from catalog.keeping import Standing
from catalog.models import EmbeddingModel
from catalog.selectors import vector_state
from search import progress
from search.models import IndexGeneration
from search.progress import BuildProgress
from search.switching.background import stopped_by, subject

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill
EXACT_IS_QUICK = 10_000  # embeddings up to which exact search is as quick as a graph (docs/operating.md)


@dataclass(frozen=True, slots=True)
class Ready:
    """``generation``: the name of its published index, or empty. ``running``: how far a worker is that fills it.

    ``trouble``: why it could not serve as it is, empty where it could. ``stopped``: why a worker could not go on
    filling it, empty where one could.
    """

    model: EmbeddingModel
    standing: Standing
    generation: str
    running: BuildProgress | None
    is_way_back: bool
    trouble: str
    stopped: str

    @property
    def in_words(self) -> str:
        """What is being done for it, or would be."""
        if self.model.fill == Fill.PAUSED:
            return "filling is paused"
        if self.stopped and self.model.fill == Fill.ASKED:
            return "stopped, and tried again every minute"
        if self.running is not None and self.model.fill == Fill.ASKED:
            return f"{self.running.step}, {self.running.done} of {self.running.total}"
        if self.model.fill == Fill.ASKED:
            return "kept up to date" if not self.standing.left else "filled when a worker is free"
        if self.standing.lacking and self.model.state != State.SERVING:
            return "nobody asked to fill it"
        return ""


def ready(model: EmbeddingModel) -> Ready:
    return Ready(
        model=model,
        standing=keeping.standing(model),
        generation=_generation(model),
        running=progress.reported(subject(model)),
        is_way_back=model == previous_model(model.pipeline),
        trouble=_trouble(model),
        stopped=stopped_by(model),
    )


def has_index(model: EmbeddingModel) -> bool:
    return bool(_generation(model))


def lacks_index(model: EmbeddingModel, more: int = 0) -> bool:
    """Whether searches would be slow from the switch on until its index is built; ``more``: embeddings to come."""
    return not has_index(model) and vector_state(model).count + more > EXACT_IS_QUICK


def _generation(model: EmbeddingModel) -> str:
    row = model.generations.filter(status=IndexGeneration.Status.PUBLISHED).first()
    return row.name if row else ""


def _trouble(model: EmbeddingModel) -> str:
    try:
        check_may_serve(model)
    except CannotServe as error:
        return str(error)
    return ""
