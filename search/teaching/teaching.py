"""From what staff labelled to a taught model with its comparison.

1. read what was labelled, with the stored vectors of the model that serves (or of its base, where that was taught)
2. split: some classes and some labels of the others are never seen; refuse where there is too little
3. train twice in one process: without classes that stand for unseen ones, to choose weight and stage, and with them
4. keep the second as a file, and compare: the very file that would serve, on what it never saw
5. one row: the model, what it was taught on, how it compared, and whether it may serve

Nothing that serves is touched; catalog.embedding_models.make_serving does that.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.utils import timezone

from catalog.embedding_models import runnable_models
from catalog.exceptions import CatalogError, ModelUnavailable
from catalog.lineage import lineage
from catalog.models import Collection, EmbeddingModel
from catalog.vision import heads, registry
from catalog.vision.heads import Head
from search.engines.registry import configured_index
from search.engines.types import Metric
from search.evaluation import thresholds
from search.evaluation.labelled import Labelled
from search.teaching.comparing import Chosen, Comparison, choose, compare
from search.teaching.errors import TeachingFailed, TeachingRefused
from search.teaching.reading import LabelSource, counted, read_statements, with_vectors
from search.teaching.splitting import Split, drawn, large_enough, split
from search.teaching.training import STAGES, Learned, Lesson, Trainer, train

logger = logging.getLogger(__name__)

MOST_PAIRED = 500  # vectors whose pairs the distances *same* and *near* come from
RATES = (thresholds.SAME_RATE, thresholds.NEAR_RATE)
OF_THE_DAY = ("date", "seconds")  # of what is kept of a teaching: no two are alike

Step = Callable[[str], None]  # told what begins


@dataclass(frozen=True, slots=True)
class Wish:
    """What to teach. ``collection`` None: all. ``name``: of the head, empty for one made from its base's."""

    pipeline: str
    source: LabelSource
    collection: Collection | None = None
    name: str = ""
    seed: int = 0


def teach(wish: Wish, step: Step = lambda _: None, trainer: Trainer | None = None) -> EmbeddingModel:
    """The new row, in state ``building``; the same labels and seed lead to the same head and the same row. So do other
    labels where only what judges has changed: that row then says the new comparison.

    Raises TeachingRefused (too few labels, a bad name, no TensorFlow, no model to teach, a head that serves and does
    not pass any more), TeachingFailed.
    """
    began = time.monotonic()
    base = _base_of(wish.pipeline)
    name = checked_name(wish.name or f"{base.embedder}-taught")
    metric = configured_index(wish.pipeline).metric
    step("reading labels")
    statements = read_statements(base, wish.source, wish.collection)
    rows = drawn([each.label for each in statements.said], wish.seed)
    labelled = with_vectors([statements.said[row] for row in rows], base)
    parts = split(labelled.labels, wish.seed)
    step("training")
    learned = (trainer or train)(_lessons(labelled, parts), wish.seed)
    step("comparing")
    chosen = choose(labelled, parts, learned.heads[0], metric)
    head = _keep(name, base, learned, chosen)
    move = registry.derived_embedder(head.name).from_base
    comparison = compare(labelled, parts, move, metric)
    evaluation = _distances(labelled, parts, move(labelled.vectors), metric)
    about = {
        **_about(wish, labelled, parts),
        "left_out": {**dict(+statements.left_out), **_not_used(statements.counts(), labelled)},
        "weight": chosen.weight,
        "stage": STAGES[chosen.stage],
        "metric": metric.value,
        "libraries": learned.libraries,
        "seconds": round(time.monotonic() - began, 1),
        **comparison.as_json(),
    }
    row = _register(head, base, about, comparison, evaluation)
    logger.info("taught %s: %s", row, comparison.decision)
    return row


def check_enough(wish: Wish) -> None:
    """Raises TeachingRefused where `teach` surely would for too few labels, or no model to teach; in no time."""
    large_enough(counted(_base_of(wish.pipeline), wish.source, wish.collection))


def checked_name(name: str) -> str:
    """As a head may be called. Raises TeachingRefused."""
    clean = "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)
    if not heads.NAME.fullmatch(clean) or len(clean) > heads.LONGEST_NAME:
        raise TeachingRefused(
            f"{name!r} cannot be the name of a head: use letters a to z, digits and hyphens, "
            f"{heads.LONGEST_NAME} at most."
        )
    return clean


def _base_of(pipeline: str) -> EmbeddingModel:
    """The model that serves, or the one that it was taught on: heads are not stacked, and the base was taught nothing,
    so that no class which judges has been seen before.
    """
    try:
        (serving,) = runnable_models([pipeline])
    except (CatalogError, ModelUnavailable) as error:
        raise TeachingRefused(str(error)) from error
    return lineage(serving)[0]


def _lessons(labelled: Labelled, parts: Split) -> list[Lesson]:
    """The one that chooses the weight, and the one that is kept, which may learn what chose, too."""
    kept_apart = np.array([label in parts.set_aside for label in labelled.labels])
    first = parts.training[~kept_apart[parts.training]]
    second = np.sort(np.concatenate([parts.training, parts.choosing]))
    return [Lesson(labelled.vectors[rows], [labelled.items[row].label for row in rows]) for rows in (first, second)]


def _keep(name: str, base: EmbeddingModel, learned: Learned, chosen: Chosen) -> Head:
    folder = registry.models_dir()
    taught = learned.heads[1][chosen.stage]
    try:
        return heads.keep(folder, name, (base.embedder, base.fingerprint), taught, chosen.weight)
    except OSError as error:
        raise TeachingFailed(
            f"The head cannot be written below {folder} ({error.strerror}): make room, or give this user access to it."
        ) from error


def _about(wish: Wish, labelled: Labelled, parts: Split) -> dict[str, Any]:
    """What it was taught on. People are named by their keys: who is deleted is in no record by name."""
    labels = labelled.labels
    return {
        "from": wish.source.value,
        "collection": wish.collection.name if wish.collection else None,
        "seed": wish.seed,
        "date": timezone.now().date().isoformat(),
        "counts": dict(sorted(Counter(labels).items())),
        "taught_classes": sorted({labels[row] for row in parts.training}),
        "unseen_classes": sorted({labels[row] for row in parts.unseen}),
        "examples": {
            "taught": len(parts.training) + len(parts.choosing),
            "held_out": len(parts.judging),
            "unseen": len(parts.unseen),
        },
    }


def _not_used(counts: Counter[str], labelled: Labelled) -> dict[str, int]:
    used = Counter(labelled.labels)
    small = sum(count for label, count in counts.items() if label not in used)
    many = sum(counts[label] - count for label, count in used.items())
    return {
        reason: count
        for reason, count in (("of a class with too few examples", small), ("more of a class than are needed", many))
        if count
    }


def _distances(labelled: Labelled, parts: Split, vectors: Any, metric: Metric) -> dict[str, Any]:
    """*same* and *near* over pairs of what the head never saw, as benchmarks/thresholds has them; {} of too few."""
    rows = np.sort(np.concatenate([parts.judging, parts.unseen]))
    apart = thresholds.sampled(Labelled(vectors, labelled.items).take(rows), MOST_PAIRED)
    choice = thresholds.choose(apart, metric, RATES)
    same, near = (choice.at(rate) for rate in RATES)
    if same is None or near is None or not same < near:
        return {}
    return {
        "metric": metric.value,
        "same": round(same, 6),
        "near": round(near, 6),
        "data": f"{len(apart)} held-out examples of {choice.labels} classes",
        "n_pairs": choice.pairs,
        "date": timezone.now().date().isoformat(),
        "method": f"false match rates {RATES[0]} and {RATES[1]} over pairs of two classes that teaching kept back",
    }


def _register(
    head: Head, base: EmbeddingModel, about: dict[str, Any], comparison: Comparison, evaluation: dict[str, Any]
) -> EmbeddingModel:
    """The row of this head, with this comparison: what judges can change where what taught did not, and with it whether
    a head of the very same bytes may serve. Limits that were taken from an evaluation (search.evaluation) stay.

    Raises TeachingRefused where the head serves and did not pass now: the row stays, and serving goes on.
    """
    described = registry.describe(head.name)
    limits = {
        "evaluation": {"fingerprint": described.fingerprint, **evaluation} if evaluation else {},
        "same_distance": evaluation.get("same"),
        "near_distance": evaluation.get("near"),
    }
    judged = {"passed_gate": comparison.passed, "teaching": about}
    with transaction.atomic():
        row, is_new = EmbeddingModel.objects.select_for_update(of=("self",)).get_or_create(
            pipeline=base.pipeline,
            embedder=head.name,
            fingerprint=described.fingerprint,
            defaults={
                "dimension": described.dimension,
                "licence": described.licence,
                "source": described.source,
                "derived_from": base,
                **judged,
                **limits,
            },
        )
        if is_new or _is_as_said(row.teaching, about):
            return row
        if row.state == EmbeddingModel.State.SERVING and not comparison.passed:
            raise TeachingRefused(
                f"This is {row} again, which serves {row.pipeline} and passed when it was taught. By what is labelled "
                f"now: {comparison.decision} Nothing was changed: let another model serve, or look at the labels."
            )
        changed = judged if "run" in row.evaluation else {**judged, **limits}
        for field, value in changed.items():
            setattr(row, field, value)
        row.save(update_fields=list(changed))
    return row


def _is_as_said(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """But for when, and how long it took."""
    return all(before.get(key) == value for key, value in json.loads(json.dumps(now)).items() if key not in OF_THE_DAY)
