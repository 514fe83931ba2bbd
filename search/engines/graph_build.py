"""Child process: build the graph of a draft (``python -m search.engines.graph_build FOLDER JSON``).

A process of its own because no library's build can be interrupted, and gives its memory back by ending.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.engines.child import Answer, Request, child_main
from search.engines.durable import flush
from search.engines.graph_files import NODES
from search.engines.graph_library import GraphBuilder, graph_library
from search.engines.stored import VECTORS, load_array
from search.engines.types import Metric, Progress
from search.engines.vectors import blocks, graph_rows


def build(folder: Path, request: Request, progress: Progress) -> Answer:
    """Request: library, metric, options. Writes the library's file and nodes.npy; answers how many nodes there are."""
    library = graph_library(request["library"])
    vectors: NDArray[np.float32] = load_array(folder / VECTORS, mapped=True)
    builder = library.GraphBuilder(vectors.shape[1], request["options"])
    nodes = _add_distinct(builder, vectors, Metric(request["metric"]), progress)
    np.save(folder / NODES, nodes)
    progress("building", 0, builder.count)
    builder.save(folder / library.FILE)
    progress("building", builder.count, builder.count)
    for name in (NODES, library.FILE):
        flush(folder / name)
    return {"nodes": builder.count}


def _add_distinct(
    builder: GraphBuilder, vectors: NDArray[np.float32], metric: Metric, progress: Progress
) -> NDArray[np.int64]:
    """Add every distinct row once; returns each row's node, int64 (n,).

    Many equal rows would be each other's only neighbours and cut off from the rest, and ties between them could not be
    broken by id. Equal is what the graph keeps as equal, decided by a 128-bit digest.
    """
    known: dict[bytes, int] = {}
    nodes = np.empty(len(vectors), dtype=np.int64)
    for block in blocks(vectors.shape):
        rows = graph_rows(vectors[block], metric)
        fresh = []
        for place, row in enumerate(builder.kept(rows)):
            digest = hashlib.blake2b(row.data, digest_size=16).digest()
            if digest not in known:
                known[digest] = len(known)
                fresh.append(place)
            nodes[block.start + place] = known[digest]
        if fresh:
            builder.add(rows[fresh])
        progress("adding", block.start + len(rows), len(vectors))
    return nodes


if __name__ == "__main__":
    child_main(build)
