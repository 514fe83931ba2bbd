"""HNSW by FAISS: queries as fast as a NMSLIB that was compiled for the machine, from a wheel; half the memory as fp16.

Douze et al., The Faiss library (arXiv 2401.08281). Optional: requirements/faiss.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from search.engines.graph_engine import GraphEngine
from search.engines.options import TARGET_RECALL, Choice, Option, Whole


class FaissHnsw(GraphEngine):
    """Its options, with what they may be:

    - ``m``, 2 to 100: links of a node. ``ef_construction``, 10 to 2000: candidates looked at when a node is linked.
    - ``storage``, "flat" or "fp16": what the graph keeps of a vector, float32 or float16.
    - ``target_recall``, 0.5 to 0.999: the recall@10 against exact search that efSearch of every build is tuned to.
    """

    name: ClassVar[str] = "faiss_hnsw"
    package: ClassVar[str] = "faiss-cpu"
    requirements: ClassVar[str] = "faiss"
    library: ClassVar[str] = "search.engines.faiss_graph"
    options: ClassVar[Mapping[str, Option]] = {
        "m": Whole(16, 2, 100),
        "ef_construction": Whole(200, 10, 2000),
        "storage": Choice(("flat", "fp16")),
        "target_recall": TARGET_RECALL,
    }
    advice: ClassVar[str] = "Raise m or ef_construction, or set storage to flat,"
