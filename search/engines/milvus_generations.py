"""The generations of one index in a Milvus server, and the alias of the one that serves.

::

    visearch_face_0123456789ab                       the alias: the only thing that decides what serves
    visearch_face_0123456789ab_g_00000007_5e0c91aa   the collection of a generation, unchanged once it has a manifest
    visearch_face_0123456789ab_manifests             a table: the manifest of each generation that was complete

A collection without a manifest is a draft. Two builders at once are kept apart by whoever calls (search.locks); should
that fail, numbers decide, as they do on disk: who begins takes the next number and drops every draft before it, since
only the newest may be published. So a dead builder's draft needs no heartbeat, and no clock, to be known for one.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.engines.errors import BuildFailed, EngineError, IndexDamaged, IndexNotBuilt
from search.engines.manifest import Manifest, parsed_manifest
from search.engines.names import is_generation, number_of
from search.engines.protocols import Fetched
from search.engines.types import IndexSpec

if TYPE_CHECKING:
    from search.engines.milvus_client import Server

logger = logging.getLogger(__name__)

_OF_AN_INDEX = re.compile(r"(.+)_(?:g_\d{8,}_[0-9a-f]{8}|manifests)")


class MilvusGenerations:
    """Numbers only grow; the newest number alone may be published."""

    def __init__(self, server: Server, spec: IndexSpec) -> None:
        self.server = server
        self._prefix = f"{server.connection.prefix}_"
        self._alias = self._prefix + re.sub(r"[^A-Za-z0-9]", "_", spec.root.name)
        self._table = f"{self._alias}_manifests"

    def collection(self, generation: str) -> str:
        return f"{self._alias}_g_{generation.replace('-', '_')}"

    def published(self) -> str:
        """Raises IndexNotBuilt where there is no alias, IndexDamaged where it leads elsewhere."""
        target = self.server.target(self._alias)
        if target is None:
            raise IndexNotBuilt(f"Nothing is published as {self._alias} in Milvus yet. Run `manage.py rebuild_index`.")
        generation = self._generation(target)
        if generation is None:
            raise IndexDamaged(f"{self._alias} in Milvus leads to {target}, which is no generation. Rebuild the index.")
        return generation

    def manifest(self, generation: str) -> Manifest:
        """Raises IndexDamaged where there is none, or one of another format version."""
        self.server.load(self._table)
        content = self.server.note(self._table, generation)
        if content is None:
            raise IndexDamaged(f"Generation {generation} has no manifest in {self._table}. Rebuild the index.")
        return parsed_manifest(content, f"The manifest of {generation} in Milvus")

    def load(self, generation: str) -> int:
        """Make it ready to be searched; how many vectors it holds. Raises IndexDamaged where it is gone."""
        self.server.load(self.collection(generation))
        return self.server.count(self.collection(generation))

    def begin(self, dimension: int) -> str:
        """A new draft with the next number, an empty collection. What nobody needs any more is dropped first."""
        self.server.ensure_table(self._table)
        number = self._newest() + 1
        self._sweep(number)
        generation = f"{number:08d}-{secrets.token_hex(4)}"
        self.server.create(self.collection(generation), dimension)
        return generation

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest, then move the alias. Raises BuildFailed where a newer builder has started."""
        generation = manifest.generation
        self.server.write_note(self._table, generation, manifest.text())
        self.check_newest(generation)
        self.server.move(self._alias, self.collection(generation))
        try:
            self._sweep(number_of(generation))
        except EngineError as error:  # it serves already; the next builder sweeps again
            logger.warning("old generations stay in Milvus for now: %s", error)

    def check_newest(self, generation: str) -> None:
        """Raises BuildFailed where a newer builder has started."""
        newest = self._newest()
        if newest > number_of(generation):
            raise BuildFailed(
                f"Generation {generation} was overtaken by another builder (number {newest}) and not published."
            )

    def discard(self, generation: str) -> None:
        """Drop a draft, or what is left of one. Does nothing to the generation that serves."""
        try:
            self._drop(generation)
        except EngineError as error:
            logger.warning("generation %s stays in Milvus until the next build: %s", generation, error)

    def remove(self) -> None:
        """All of this index. The table goes last: what was interrupted is still seen by ``indexes``."""
        self.server.unalias(self._alias)
        for name in self._names():
            self.server.drop(self.collection(name))
        self.server.drop(self._table)

    def indexes(self) -> list[str]:
        """The names of all indexes of this prefix."""
        found = (_OF_AN_INDEX.fullmatch(name.removeprefix(self._prefix)) for name in self._of_this_site())
        return sorted({match[1] for match in found if match})

    def _of_this_site(self) -> list[str]:
        return [name for name in self.server.collections() if name.startswith(self._prefix)]

    def fetch(self, manifest: Manifest, ids: NDArray[np.int64]) -> Fetched:
        """See search.engines.protocols.ServerEngine."""
        collection, batch = self.collection(manifest.generation), self.server.connection.batch
        pages = (ids[start : start + batch].tolist() for start in range(0, len(ids), batch))
        found = [self.server.fetch(collection, page, manifest.dimension) for page in pages]
        nothing = np.empty((0, manifest.dimension), dtype=np.float32)
        return Fetched(
            np.concatenate([np.empty(0, dtype=np.int64), *(each.ids for each in found)]),
            np.concatenate([nothing, *(each.vectors for each in found)]),
        )

    def _generation(self, collection: str) -> str | None:
        name = collection.removeprefix(f"{self._alias}_g_").replace("_", "-")
        return name if name != collection and is_generation(name) else None

    def _names(self) -> list[str]:
        """Of all generations and drafts, the oldest first."""
        names = [self._generation(collection) for collection in self.server.collections()]
        return sorted((name for name in names if name is not None), key=number_of)

    def _newest(self) -> int:
        return max(map(number_of, self._names()), default=0)

    def _sweep(self, number: int) -> None:
        """Drop all that is older than this number, but the generation that serves and the one before it."""
        complete = set(self.server.notes(self._table))
        try:
            current = self.published()
        except (IndexNotBuilt, IndexDamaged):
            kept = complete  # nothing says which one matters: keep them all
        else:
            before = [name for name in self._names() if name in complete and number_of(name) < number_of(current)]
            kept = {current, *before[-1:]}
        for name in {*self._names(), *complete} - kept:
            if number_of(name) < number:
                self._drop(name)

    def _drop(self, generation: str) -> None:
        if self.server.target(self._alias) != self.collection(generation):
            self.server.drop(self.collection(generation))
            self.server.drop_note(self._table, generation)
