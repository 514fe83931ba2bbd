"""The one module that talks to Milvus: the few things an index asks of it, and one error for all that goes wrong.

Written against pymilvus 3.0 and tried with Milvus Lite 3.2 alone. A query waits ``timeout`` seconds. A step of a build
takes as long as it takes; of a server that is gone pymilvus gives up after 75 tries, at most 3 seconds apart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.milvus_client.index import IndexParams

from search.engines.errors import IndexDamaged, IndexUnreachable
from search.engines.milvus_options import Connection
from search.engines.types import Metric

ID, COLLECTION, VECTOR = "id", "collection", "vector"
NAME, CONTENT = "name", "content"  # of a table of notes
MOST_TEXT = 65_535  # bytes of a VARCHAR
NOT_FOUND = 100  # the server's code for a collection that is not there
STRONG = "Strong"
# By default gRPC waits longer and longer, up to two minutes, before it looks for a server again that was away; and it
# shares that wait among all connections of the process.
RECONNECT = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.use_local_subchannel_pool": 1,
}
METRICS = {Metric.L2: "L2", Metric.COSINE: "COSINE"}

# Whatever it logs it raises, too, and it logs a traceback at every question whose answer is "no".
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows as the server holds them: ``ids`` int64 (n,), ``vectors`` float32 (n, d), ``collections`` int64 (n,)."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    collections: NDArray[np.int64]


@cache
def _connected(connection: Connection, process: int) -> Server:
    return Server(connection)


def server_of(connection: Connection) -> Server:
    """The one connection of this process, opened on first use. Raises IndexUnreachable."""
    return _connected(connection, os.getpid())  # a connection does not survive a fork


class Server:
    """A Milvus server. Every method raises IndexUnreachable, and IndexDamaged for a collection that is gone."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._timeout: float | None = connection.timeout
        with self._asking("be reached"):
            self._client: Any = MilvusClient(
                connection.uri,
                token=connection.token,
                db_name=connection.database,
                timeout=connection.timeout,
                grpc_options=RECONNECT,
            )

    def patient(self) -> Server:
        """The same connection for a build, whose steps may take hours."""
        other = copy(self)
        other._timeout = None
        return other

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            if isinstance(error, MilvusException) and error.code == NOT_FOUND:
                raise IndexDamaged(
                    f"Milvus at {self.connection.uri} could not {what}: {_words(error)}. Rebuild the index."
                ) from error
            raise IndexUnreachable(
                f"Milvus at {self.connection.uri} could not {what}: {_words(error)}. Is it running, and is its address "
                f"right in VISEARCH_ENGINES?"
            ) from error

    def version(self) -> str:
        with self._asking("say its version"):
            return str(self._client.get_server_version(timeout=self._timeout))

    # --- names ---

    def collections(self) -> list[str]:
        with self._asking("list its collections"):
            return list(self._client.list_collections(timeout=self._timeout))

    def target(self, alias: str) -> str | None:
        """The collection that an alias leads to; None where there is no such alias."""
        with self._asking(f"say what {alias} is"):
            if not self._client.has_collection(alias, timeout=self._timeout):
                return None
            return str(self._client.describe_alias(alias, timeout=self._timeout)["collection_name"])

    def move(self, alias: str, collection: str) -> None:
        """Let the alias lead to the collection, in one step."""
        is_new = self.target(alias) is None
        with self._asking(f"move {alias}"):
            change = self._client.create_alias if is_new else self._client.alter_alias
            change(collection, alias, timeout=self._timeout)

    def unalias(self, alias: str) -> None:
        """Nothing where there is no such alias."""
        if self.target(alias) is not None:
            with self._asking(f"drop {alias}"):
                self._client.drop_alias(alias, timeout=self._timeout)

    def drop(self, collection: str) -> None:
        """Nothing where it is not there."""
        with self._asking(f"drop {collection}"):
            self._client.drop_collection(collection, timeout=self._timeout)

    # --- rows ---

    def create(self, collection: str, dimension: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, DataType.INT64, is_primary=True)
        schema.add_field(COLLECTION, DataType.INT64)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
        with self._asking(f"create {collection}"):
            self._client.create_collection(collection, schema=schema, timeout=self._timeout)

    def insert(self, collection: str, found: Found) -> None:
        columns = (found.ids.tolist(), found.collections.tolist(), found.vectors)
        rows = [{ID: key, COLLECTION: where, VECTOR: vector} for key, where, vector in zip(*columns, strict=True)]
        with self._asking(f"store rows in {collection}"):
            self._client.insert(collection, rows)

    def flush(self, collection: str) -> None:
        with self._asking(f"flush {collection}"):
            self._client.flush(collection)

    def index(self, collection: str, kind: str, metric: Metric, params: Mapping[str, int]) -> None:
        """Index the vectors anew, and load them. Returns when both are done."""
        wanted: IndexParams = MilvusClient.prepare_index_params()
        wanted.add_index(VECTOR, index_type=kind, index_name=VECTOR, metric_type=METRICS[metric], params=dict(params))
        with self._asking(f"index {collection}"):
            self._client.release_collection(collection)
            if VECTOR in self._client.list_indexes(collection):
                self._client.drop_index(collection, VECTOR)
            self._client.create_index(collection, wanted)
            self._client.load_collection(collection)

    def load(self, collection: str) -> None:
        """What a server that was restarted may not have done by itself."""
        with self._asking(f"load {collection}"):
            self._client.load_collection(collection, timeout=self._timeout)

    def count(self, collection: str, where: str = "") -> int:
        with self._asking(f"count {collection}"):
            (row,) = self._client.query(
                collection, where, ["count(*)"], timeout=self._timeout, consistency_level=STRONG
            )
            return int(row["count(*)"])

    def search(
        self, collection: str, queries: NDArray[np.float32], *, limit: int, metric: Metric, width: int, where: str = ""
    ) -> list[Found]:
        """For each of ``queries`` (q, d) the ``limit`` rows that the index finds nearest, with their vectors."""
        parameters = {"metric_type": METRICS[metric], "params": {"ef": max(width, limit)} if width else {}}
        with self._asking(f"search {collection}"):
            answers = self._client.search(
                collection,
                list(queries),
                where,
                limit,
                [COLLECTION, VECTOR],
                parameters,
                timeout=self._timeout,
                anns_field=VECTOR,
                consistency_level=self.connection.consistency,
            )
            return [_found([{ID: hit[ID], **hit["entity"]} for hit in hits], queries.shape[1]) for hits in answers]

    def fetch(self, collection: str, ids: Sequence[int], dimension: int) -> Found:
        """Those of these rows that are there."""
        with self._asking(f"read {collection}"):
            rows = self._client.get(
                collection,
                list(ids),
                [ID, COLLECTION, VECTOR],
                timeout=self._timeout,
                consistency_level=self.connection.consistency,
            )
            return _found(rows, dimension)

    def walk(self, collection: str, where: str, batch: int, dimension: int) -> Iterator[Found]:
        """All rows that satisfy an expression, ``batch`` at a time."""
        with self._asking(f"read {collection}"):
            pages = self._client.query_iterator(
                collection,
                batch_size=batch,
                filter=where,
                output_fields=[ID, COLLECTION, VECTOR],
                timeout=self._timeout,
                consistency_level=self.connection.consistency,
            )
            try:
                while rows := pages.next():
                    yield _found(rows, dimension)
            finally:
                pages.close()

    # --- notes: a small table of texts by name, which Milvus wants a vector in, too ---

    def note(self, table: str, name: str) -> str | None:
        with self._asking(f"read {table}"):
            rows = self._client.get(table, [name], [CONTENT], timeout=self._timeout, consistency_level=STRONG)
            return str(rows[0][CONTENT]) if rows else None

    def notes(self, table: str) -> list[str]:
        with self._asking(f"read {table}"):
            rows = self._client.query(
                table, f'{NAME} >= ""', [NAME], timeout=self._timeout, consistency_level=STRONG, limit=16_384
            )
            return [str(row[NAME]) for row in rows]

    def write_note(self, table: str, name: str, content: str) -> None:
        with self._asking(f"write {table}"):
            self._client.insert(table, [{NAME: name, CONTENT: content, VECTOR: [0.0, 1.0]}], timeout=self._timeout)

    def drop_note(self, table: str, name: str) -> None:
        with self._asking(f"write {table}"):
            self._client.delete(table, [name], timeout=self._timeout)

    def ensure_table(self, table: str) -> None:
        if table not in self.collections():
            self._create_table(table)
        self.load(table)

    def _create_table(self, table: str) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(NAME, DataType.VARCHAR, is_primary=True, max_length=255)
        schema.add_field(CONTENT, DataType.VARCHAR, max_length=MOST_TEXT)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=2)
        indexes: IndexParams = MilvusClient.prepare_index_params()
        indexes.add_index(VECTOR, index_type="FLAT", metric_type="L2")
        with self._asking(f"create {table}"):
            self._client.create_collection(table, schema=schema, index_params=indexes, timeout=self._timeout)


def _found(rows: Sequence[Mapping[str, Any]], dimension: int) -> Found:
    return Found(
        ids=np.array([row[ID] for row in rows], dtype=np.int64),
        vectors=np.array([row[VECTOR] for row in rows], dtype=np.float32).reshape(len(rows), dimension),
        collections=np.array([row[COLLECTION] for row in rows], dtype=np.int64),
    )


def _words(error: MilvusException | grpc.RpcError) -> str:
    """The first line of what it says; the rest is for those who debug pymilvus."""
    said = error.message if isinstance(error, MilvusException) else error.details()
    return str(said).strip().splitlines()[0].rstrip(".") if said else type(error).__name__
