"""A new generation in a Milvus server: rows go there as they come, nothing but the chunk at hand is held here."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, IndexDamaged, IndexUnreachable
from search.engines.incoming import Incoming
from search.engines.manifest import Manifest
from search.engines.milvus_generations import MilvusGenerations
from search.engines.milvus_verify import Sample, verify
from search.engines.types import IndexSpec, Progress, unwatched

MOST_BYTES = 16 << 20  # of vectors in one message; servers take 64 MB


class MilvusWriter:
    """An IndexWriter. Its collection is a draft until it has a manifest, and invisible until the alias moves."""

    def __init__(self, generations: MilvusGenerations, spec: IndexSpec, engine: str) -> None:
        self._generations = generations
        self._server = generations.server.patient()
        self._spec = spec
        self._engine = engine
        self._started = time.monotonic()
        self._incoming = Incoming(spec.dimension)
        self._sample = Sample(spec.dimension)
        self._batch = max(1, min(self._server.connection.batch, MOST_BYTES // (4 * spec.dimension)))
        self._found: Any = importlib.import_module("search.engines.milvus_client").Found
        self._generation = generations.begin(spec.dimension)
        self._collection = generations.collection(self._generation)

    @property
    def generation(self) -> str:
        return self._generation

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], collections: NDArray[np.int64]) -> None:
        """See IndexWriter.add."""
        rows = self._incoming.checked(ids, vectors, collections)
        self._sample.offer(np.asarray(ids), rows)
        for start in range(0, len(rows), self._batch):
            part = slice(start, start + self._batch)
            with self._building():
                self._server.insert(self._collection, self._found(ids[part], rows[part], collections[part]))

    def publish(self, progress: Progress | None = None) -> Manifest:
        """See IndexWriter.publish. What is verified is asked of the server, a process of its own."""
        report = progress or unwatched
        rows = self._incoming.total()
        with self._building():
            self._generations.check_newest(self._generation)
            report("building", 0, rows.count)
            self._server.flush(self._collection)
            measured = verify(
                self._server, self._collection, self._spec, count=rows.count, sample=self._sample, progress=report
            )
            manifest = self._manifest(measured)
            report("publishing", 0, 1)
            self._generations.publish(manifest)
            report("publishing", 1, 1)
        return manifest

    def discard(self) -> None:
        """See IndexWriter.discard."""
        self._generations.discard(self._generation)

    @contextmanager
    def _building(self) -> Iterator[None]:
        try:
            yield
        except IndexUnreachable as error:
            raise BuildFailed(f"Generation {self._generation} could not be built. {error}") from error
        except IndexDamaged as error:
            raise BuildFailed(f"Generation {self._generation} was dropped while it was being built. {error}") from error

    def _manifest(self, measured: dict[str, Any]) -> Manifest:
        return Manifest.of_build(
            self._spec,
            self._incoming.total(),
            generation=self._generation,
            engine=self._engine,
            started=self._started,
            measured=measured,
            libraries={"pymilvus": version("pymilvus"), "milvus": self._server.version()},
            files={},
        )
