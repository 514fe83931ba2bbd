"""The libraries themselves, without our reader: the same file, one query at a time. Loaded by name, each on its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_runs import Case, K

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]


class Nmslib:
    def __init__(self, folder: Path, case: Case) -> None:
        self._index: Any = importlib.import_module("nmslib").init(method="hnsw", space="l2")
        self._index.loadIndex(str(folder / "index.hnsw"), load_data=False)

    def widen(self, width: int) -> None:
        self._index.setQueryTimeParams({"efSearch": width})

    def search(self, query: Vector) -> Rows:
        found: Rows = self._index.knnQuery(query, k=K)[0]
        return found


class Faiss:
    def __init__(self, folder: Path, case: Case) -> None:
        faiss: Any = importlib.import_module("faiss")
        self._index = faiss.read_index(str(folder / "index.faiss"))

    def widen(self, width: int) -> None:
        self._index.hnsw.efSearch = width

    def search(self, query: Vector) -> Rows:
        found: Rows = self._index.search(query[None, :], K)[1][0]
        return found


class Annoy:
    def __init__(self, folder: Path, case: Case) -> None:
        self._index: Any = importlib.import_module("annoy").AnnoyIndex(case.dimension, "euclidean")
        self._index.load(str(folder / "index.annoy"))
        self._nodes = -1

    def widen(self, width: int) -> None:
        self._nodes = width * int(self._index.get_n_trees())

    def search(self, query: Vector) -> Rows:
        return np.array(self._index.get_nns_by_vector(query, K, self._nodes), dtype=np.int64)


class Milvus:
    """The server's own answer: ids and its distances."""

    def __init__(self, folder: Path, case: Case) -> None:
        made: Any = case.made()
        self._collection: str = made._generations(case.spec).collection(folder.name)
        self._client: Any = importlib.import_module("pymilvus").MilvusClient(case.server)
        self._width = 0

    def widen(self, width: int) -> None:
        self._width = width

    def search(self, query: Vector) -> Rows:
        asked = {"metric_type": "L2", "params": {"ef": self._width}}
        (found,) = self._client.search(self._collection, [query], limit=K, search_params=asked)
        return np.array([each["id"] for each in found], dtype=np.int64) - 1  # ids are row numbers and one


class Numpy:
    """All distances by BLAS in float32, and the K smallest of them."""

    widen = None

    def __init__(self, folder: Path, case: Case) -> None:
        self._rows: Vector = np.load(folder / "vectors.npy")
        self._squares = np.einsum("ij,ij->i", self._rows, self._rows)

    def search(self, query: Vector) -> Rows:
        distances = self._squares - 2 * (self._rows @ query)
        nearest = np.argpartition(distances, K)[:K]
        found: Rows = nearest[np.argsort(distances[nearest])]
        return found
