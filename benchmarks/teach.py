"""Teach on labelled images, and measure held-out queries before and after, of taught and of never taught classes.

    python -m benchmarks.teach DATA/clothing/catalogue --queries DATA/clothing/queries [--seeds 5]

Everything is real and its own: servers and folders in a temporary folder. The catalogue is imported with its labels and
processed, and `teach` runs as its command does, once for each seed: a seed decides which classes and labels are kept
back, so one alone says little. The gate judges by what `teach` keeps back of the catalogue; the queries are files that
neither training nor gate has seen, searched among the whole catalogue.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.machine import describe
from benchmarks.own_site import own_folder, own_site

if TYPE_CHECKING:
    from catalog.models import EmbeddingModel
    from search.evaluation.labelled import Labelled

Row = tuple[float, float, float, float]  # P@10 before and after: of taught classes, of classes never seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path, help="CATALOGUE/LABEL/file")
    parser.add_argument("--queries", type=Path, required=True, help="QUERIES/LABEL/file")
    parser.add_argument("--pipeline", default="image")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print(describe("numpy", "onnxruntime", "tensorflow", "keras"))
    with own_folder() as folder, own_site(folder):
        base = _import(arguments.catalogue, arguments.pipeline)
        catalogue, queries = _vectors(base, arguments.queries)
        print(f"{len(catalogue)} catalogue and {len(queries)} query images, {base}")
        rows = [_teach(base, seed, catalogue, queries) for seed in range(arguments.seeds)]
    mean = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print(f"mean of {len(rows)} seeds, P@10 of queries: taught classes {mean[0]:.3f} to {mean[1]:.3f}, ", end="")
    print(f"classes never seen {mean[2]:.3f} to {mean[3]:.3f}")


def _import(folder: Path, pipeline: str) -> EmbeddingModel:
    from django.core.management import call_command

    from catalog.embedding_models import serving_model
    from catalog.processing import process_batch

    call_command("models", "build")
    call_command(
        "import_folder", str(folder), collection="taught", pipelines=pipeline, label_from_folder=True, no_wait=True
    )
    began = time.perf_counter()
    while process_batch():
        pass
    print(f"processed in {time.perf_counter() - began:.0f} s")
    return serving_model(pipeline)


def _vectors(base: EmbeddingModel, folder: Path) -> tuple[Labelled, Labelled]:
    """The catalogue and the queries, by the base."""
    from search.evaluation.folders import read_folder
    from search.evaluation.labelled import check_apart
    from search.teaching.reading import LabelSource, read_statements, with_vectors

    catalogue = with_vectors(read_statements(base, LabelSource.LABELS, None).said, base)
    queries = read_folder(folder, base, as_queries=True, on_file=lambda done, total: None).labelled
    check_apart(queries, catalogue)
    return catalogue, queries


def _teach(base: EmbeddingModel, seed: int, catalogue: Labelled, queries: Labelled) -> Row:
    from catalog.vision import registry
    from search.engines.registry import configured_index
    from search.evaluation.metrics import retrieval
    from search.teaching.reading import LabelSource
    from search.teaching.teaching import Wish, teach
    from search.teaching.words import summary

    began = time.perf_counter()
    model = teach(Wish(base.pipeline, LabelSource.LABELS, seed=seed))
    seconds = time.perf_counter() - began
    unseen = set(model.teaching["unseen_classes"])
    print(
        f"\nseed {seed}, {seconds:.1f} s, weight {model.teaching['weight']}, never taught: {', '.join(sorted(unseen))}"
    )
    for line in summary(model.teaching)[1:]:
        print(f"  gate: {line}")
    move = registry.derived_embedder(model.embedder).from_base
    metric = configured_index(base.pipeline).metric
    figures: list[float] = []
    for name, inside in (("taught classes", False), ("classes never seen", True)):
        some = queries.take(_rows(queries, unseen, inside=inside))
        before = retrieval(some.vectors, some.labels, catalogue.vectors, catalogue.labels, metric)
        after = retrieval(move(some.vectors), some.labels, move(catalogue.vectors), catalogue.labels, metric)
        said = (f"P@{k} {before.precision_at[k]:.3f} to {after.precision_at[k]:.3f}" for k in (1, 10))
        print(f"  {before.n} queries of {name}: {', '.join(said)}")
        figures += [before.precision_at[10], after.precision_at[10]]
    return figures[0], figures[1], figures[2], figures[3]


def _rows(queries: Labelled, classes: set[str], *, inside: bool) -> Sequence[int]:
    return np.flatnonzero([(label in classes) == inside for label in queries.labels]).tolist()


if __name__ == "__main__":
    main()
