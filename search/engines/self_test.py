"""Child process: ask a draft what searches will ask of it (``python -m search.engines.self_test FOLDER JSON``).

A process that has seen none of the build opens the draft as every reader will: the manifest, the sha256 of each file,
the engine's own reader. Then, of a sample of stored vectors (seeded by their number):

1. The reader holds as many rows as were written, up to the same id.
2. Each vector of the sample finds itself first, at distance 0.
3. recall@10 of queries near the sample (search.engines.recall) against exact search reaches what the engine was
   asked for, within three standard errors.
4. Distances are the true ones, nearest first; k is filled; inside a scope the answer is exact.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from search.engines.child import Answer, Request, child_main
from search.engines.errors import BuildFailed, EngineError
from search.engines.recall import NEIGHBOURS, SAME, query_near, share_found
from search.engines.scan import exact_search
from search.engines.stored import IDS, VECTORS, load_array
from search.engines.types import Hits, IndexSpec, Metric, Progress, Scope
from search.engines.vectors import exact_distances

if TYPE_CHECKING:
    from search.engines.folder_engine import FolderEngine, FolderReader

CHECKING = "checking"
SAMPLE = 100  # vectors; with ten neighbours each the standard error of a recall of 0.98 is about 0.006


@dataclass(frozen=True, slots=True)
class Draft:
    """An opened draft beside the rows it was made of, read by nobody else."""

    reader: FolderReader
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    metric: Metric

    def exact(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None = None) -> Hits:
        return exact_search(self.ids, self.vectors, query, k, self.metric, rows=rows)

    def answer(self, query: NDArray[np.float32], k: int) -> Hits:
        """What the reader finds, filled and with true distances. Raises BuildFailed."""
        hits = self.reader.search(query, k)
        wanted = min(k, len(self.ids))
        if len(np.unique(hits.ids)) != wanted:
            raise BuildFailed(f"Self-test: a query for {k} of {len(self.ids)} vectors got {len(np.unique(hits.ids))}.")
        rows = np.searchsorted(self.ids, hits.ids).clip(max=len(self.ids) - 1)
        if (self.ids[rows] != hits.ids).any():
            raise BuildFailed("Self-test: a query got ids that were never put in.")
        true = exact_distances(self.vectors[rows], query, self.metric)
        if not np.allclose(hits.distances, true, rtol=SAME, atol=SAME) or (np.diff(hits.distances) < 0).any():
            raise BuildFailed("Self-test: a query got distances that are not the true ones, nearest first.")
        return hits


def self_test(folder: Path, request: Request, progress: Progress) -> Answer:
    """Request: what ``describe`` gives. Raises BuildFailed with what does not hold; answers sample and recall."""
    draft = _opened(folder, request)
    _check_count(draft, request)
    sample = _sample(len(draft.ids))
    shares = []
    for done, row in enumerate(sample):
        progress(CHECKING, done, len(sample))
        hits = draft.answer(draft.vectors[row], NEIGHBOURS)
        _check_finds_itself(draft, int(row), hits)
        shares.append(_share_found(draft, int(row), hits))
    recall = float(np.mean(shares)) if shares else 1.0
    error = float(np.std(shares)) / max(1, len(shares)) ** 0.5
    if recall + 3 * error < request["recall"]:
        raise BuildFailed(
            f"Self-test: recall@{NEIGHBOURS} of {len(sample)} queries is {recall:.4f}, below the target "
            f"{request['recall']}."
        )
    _check_scope(draft, sample)
    progress(CHECKING, len(sample), len(sample))
    return {"sample": len(sample), "recall": recall}


def describe(engine: FolderEngine, spec: IndexSpec, manifest_sha256: str) -> Request:
    """What the child has to know. ``recall``: what the engine was asked for; one that takes no target is exact."""
    return {
        "module": type(engine).__module__,
        "engine": type(engine).__qualname__,
        "manifest_sha256": manifest_sha256,
        "fingerprint": spec.fingerprint,
        "dimension": spec.dimension,
        "metric": spec.metric.value,
        "recall": spec.options.get("target_recall", 1.0),
    }


def _opened(folder: Path, request: Request) -> Draft:
    engine = cast("FolderEngine", getattr(importlib.import_module(request["module"]), request["engine"])())
    metric = Metric(request["metric"])
    spec = IndexSpec(folder.parent, request["fingerprint"], request["dimension"], metric)
    try:
        reader = engine.open_folder(spec, folder, request["manifest_sha256"])
    except (EngineError, OSError) as error:
        raise BuildFailed(f"Self-test: the generation cannot be opened. {error}") from error
    return Draft(reader, load_array(folder / IDS), load_array(folder / VECTORS, mapped=True), metric)


def _check_count(draft: Draft, request: Request) -> None:
    highest = int(draft.ids[-1]) if len(draft.ids) else 0
    if (draft.reader.count, draft.reader.highest_id, len(draft.vectors)) != (len(draft.ids), highest, len(draft.ids)):
        raise BuildFailed(
            f"Self-test: the reader counts {draft.reader.count} vectors up to id {draft.reader.highest_id}; "
            f"{len(draft.ids)} up to {highest} were written."
        )


def _sample(count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(count).choice(count, min(SAMPLE, count), replace=False))


def _check_finds_itself(draft: Draft, row: int, hits: Hits) -> None:
    own = int(draft.ids[row])
    same = hits.ids[hits.distances <= SAME]
    if own not in same and len(same) < len(hits):  # more than k equal ones: any of them are right
        raise BuildFailed(
            f"Self-test: the stored vector of id {own} does not find itself first, but id {int(hits.ids[0])} at "
            f"distance {hits.distances[0]:.6g}."
        )


def _share_found(draft: Draft, row: int, hits: Hits) -> float:
    """Of the true neighbours of a query near this row, of which ``hits`` were found."""
    near = draft.vectors[np.searchsorted(draft.ids, hits.ids)]
    query = query_near(draft.vectors[row], near, hits.distances)
    return share_found(draft.answer(query, NEIGHBOURS).distances, draft.exact(query, NEIGHBOURS).distances)


def _check_scope(draft: Draft, sample: NDArray[np.int64]) -> None:
    """Few rows, which no engine may answer approximately."""
    if len(sample) == 0:
        return
    query = draft.vectors[sample[0]]
    truth = draft.exact(query, NEIGHBOURS, rows=sample)
    hits = draft.reader.search(query, NEIGHBOURS, Scope(ids=draft.ids[sample]))
    if hits.ids.tolist() != truth.ids.tolist():
        raise BuildFailed(f"Self-test: inside a scope of {len(sample)} vectors the answer is not the exact one.")


if __name__ == "__main__":
    child_main(self_test)
