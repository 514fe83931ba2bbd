"""Engines whose readers do what a broken graph, a faulty library or a dying disk would make them do."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from search.engines.exact import Exact, ExactReader
from search.engines.folder_engine import Built
from search.engines.generations import Stamp
from search.engines.incoming import RowCount
from search.engines.manifest import Manifest
from search.engines.types import EVERYWHERE, Hits, IndexSpec, Progress, Scope


class LyingReader(ExactReader):
    """``lie`` changes what the exact engine answers to a query without a scope."""

    def search(self, vector: ArrayLike, k: int, scope: Scope = EVERYWHERE) -> Hits:
        hits = super().search(vector, k, scope)
        return hits if not scope.is_everything else self.lie(np.asarray(vector, dtype=np.float32), k, hits)

    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        return hits

    def others(self, query: np.ndarray, k: int, skip: int) -> Hits:
        hits = super().search(query, k + skip)
        return Hits(hits.ids[skip:], hits.distances[skip:])


class NotItself(LyingReader):
    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        return self.others(query, k, skip=1)


class Half(LyingReader):
    """Itself, and then neighbours from too far away."""

    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        far = self.others(query, k - 1, skip=k)
        return Hits(np.append(hits.ids[:1], far.ids), np.append(hits.distances[:1], far.distances))


class Squared(LyingReader):
    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        return replace(hits, distances=hits.distances**2)


class Few(LyingReader):
    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        return Hits(hits.ids[:3], hits.distances[:3])


class Strangers(LyingReader):
    def lie(self, query: np.ndarray, k: int, hits: Hits) -> Hits:
        return replace(hits, ids=hits.ids + 1)


class EverywhereReader(ExactReader):
    """Forgets the scope."""

    def search(self, vector: ArrayLike, k: int, scope: Scope = EVERYWHERE) -> Hits:
        return super().search(vector, k)


class FewerReader(ExactReader):
    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> None:
        super().__init__(folder, manifest, stamp)
        self.count -= 1


class DyingReader(ExactReader):
    """As NMSLIB does with a damaged file."""

    def __init__(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Lying(Exact):
    made: ClassVar[type[ExactReader]]

    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> ExactReader:
        return self.made(folder, manifest, stamp)


class DoesNotFindItself(Lying):
    made = NotItself


class MissesNeighbours(Lying):
    made = Half


class SquaresDistances(Lying):
    made = Squared


class FindsFew(Lying):
    made = Few


class FindsStrangers(Lying):
    made = Strangers


class ForgetsTheScope(Lying):
    made = EverywhereReader


class CountsWrong(Lying):
    made = FewerReader


class Dies(Lying):
    made = DyingReader


class SaysNoRecall(Exact):
    """No lie: its build measures nothing."""

    def build(self, folder: Path, spec: IndexSpec, rows: RowCount, progress: Progress | None = None) -> Built:
        return Built()
