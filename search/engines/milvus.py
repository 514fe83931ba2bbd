"""Vectors in a Milvus server, for when one machine is too small: a collection per generation, an alias that serves.

pymilvus is loaded only when a server is asked (search.engines.milvus_client).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import IndexDamaged
from search.engines.manifest import Manifest, check_agrees
from search.engines.milvus_generations import MilvusGenerations
from search.engines.milvus_options import Connection, check_connection, check_options
from search.engines.milvus_reader import MilvusReader
from search.engines.milvus_writer import MilvusWriter
from search.engines.protocols import Fetched
from search.engines.types import IndexSpec

if TYPE_CHECKING:
    from search.engines.milvus_client import Server


class Milvus:
    """An IndexEngine. Its options, with what they may be:

    - ``index``: ``HNSW``, or ``FLAT``, which reads every vector and is exact.
    - ``m``, 2 to 100: links of a node. ``ef_construction``, 10 to 2000: candidates looked at when a node is linked.
    - ``target_recall``, 0.5 to 0.999: the recall@10 against exact search that every build is tuned to.

    ``IndexSpec.connection`` is a search.engines.milvus_options.Connection.
    """

    name: ClassVar[str] = "milvus"

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
        return check_options(options)

    @staticmethod
    def check_connection(connection: Mapping[str, Any]) -> Connection:
        """How the server is reached. Raises ValueError for a bad or unknown entry."""
        return check_connection(connection)

    def start(self, spec: IndexSpec) -> MilvusWriter:
        return MilvusWriter(self._generations(spec), spec, self.name)

    def published(self, spec: IndexSpec) -> str:
        """See IndexEngine.published."""
        return self._generations(spec).published()

    def inspect(self, spec: IndexSpec, trusted_seconds: float = 0.0) -> Manifest:
        """See IndexEngine.inspect."""
        return self._verified(self._generations(spec), spec)

    def open(self, spec: IndexSpec) -> MilvusReader:
        """See IndexEngine.open."""
        generations = self._generations(spec)
        return MilvusReader(generations, self._verified(generations, spec))

    def remove(self, spec: IndexSpec) -> None:
        """See IndexEngine.remove."""
        self._generations(spec).remove()

    def indexes(self, spec: IndexSpec) -> list[str]:
        """See ServerEngine.indexes."""
        return self._generations(spec).indexes()

    def fetch(self, spec: IndexSpec, manifest: Manifest, ids: NDArray[np.int64]) -> Fetched:
        """See ServerEngine.fetch."""
        return self._generations(spec).fetch(manifest, ids)

    def _generations(self, spec: IndexSpec) -> MilvusGenerations:
        server: Server = importlib.import_module("search.engines.milvus_client").server_of(spec.connection)
        return MilvusGenerations(server, spec)

    def _verified(self, generations: MilvusGenerations, spec: IndexSpec) -> Manifest:
        """The manifest of what is published, whose collection holds what it says."""
        manifest = generations.manifest(generations.published())
        check_agrees(manifest, spec, self.name)
        held = generations.load(manifest.generation)
        if held != manifest.count:
            raise IndexDamaged(
                f"Generation {manifest.generation} holds {held} vectors in Milvus, not the {manifest.count} that were "
                f"published. Rebuild the index."
            )
        return manifest
