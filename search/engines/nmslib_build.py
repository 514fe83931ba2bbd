"""Child process: build the HNSW graph of a draft (``python -m search.engines.nmslib_build FOLDER JSON``).

A process of its own because createIndex cannot be interrupted, and gives its memory back by ending.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.engines.child import Answer, Request, child_main
from search.engines.durable import flush
from search.engines.nmslib_files import GRAPH, NODES
from search.engines.nmslib_graph import GraphBuilder
from search.engines.stored import VECTORS, load_array
from search.engines.types import Metric
from search.engines.vectors import blocks, graph_rows


def build(folder: Path, request: Request) -> Answer:
    """Request: metric, m, ef_construction, post. Writes index.hnsw and nodes.npy; answers how many nodes there are."""
    vectors: NDArray[np.float32] = load_array(folder / VECTORS, mapped=True)
    builder = GraphBuilder()
    nodes = _add_distinct(builder, vectors, Metric(request["metric"]))
    np.save(folder / NODES, nodes)
    builder.save(folder / GRAPH, request["m"], request["ef_construction"], request["post"])
    for name in (NODES, GRAPH):
        flush(folder / name)
    return {"nodes": builder.count}


def _add_distinct(builder: GraphBuilder, vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.int64]:
    """Add every distinct row once; returns each row's node, int64 (n,).

    Many equal rows would be each other's only neighbours and cut off from the rest, and ties between them could not be
    broken by id. Equal is decided by a 128-bit digest.
    """
    known: dict[bytes, int] = {}
    nodes = np.empty(len(vectors), dtype=np.int64)
    for block in blocks(vectors.shape):
        rows = graph_rows(vectors[block], metric)
        fresh = []
        for place, row in enumerate(rows):
            digest = hashlib.blake2b(row.data, digest_size=16).digest()
            if digest not in known:
                known[digest] = len(known)
                fresh.append(place)
            nodes[block.start + place] = known[digest]
        if fresh:
            builder.add(rows[fresh])
    return nodes


if __name__ == "__main__":
    child_main(build)
