"""The default engine: an HNSW graph by NMSLIB proposes candidates, exact distances decide.

Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW graphs (arXiv 1603.09320).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from search.engines.graph_engine import GraphEngine
from search.engines.options import TARGET_RECALL, Option, Whole


class NmslibHnsw(GraphEngine):
    """Its options, with what they may be:

    - ``m``, 2 to 100: links of a node. ``ef_construction``, 10 to 2000: candidates looked at when a node is linked.
    - ``post``, 0 to 2: at 2 a build takes twice as long and queries are 1.3 to 1.6 times faster at equal recall.
    - ``target_recall``, 0.5 to 0.999: the recall@10 against exact search that efSearch of every build is tuned to.
    """

    name: ClassVar[str] = "nmslib_hnsw"
    package: ClassVar[str] = "nmslib"
    requirements: ClassVar[str] = "base"
    library: ClassVar[str] = "search.engines.nmslib_graph"
    options: ClassVar[Mapping[str, Option]] = {
        "m": Whole(16, 2, 100),
        "ef_construction": Whole(200, 10, 2000),
        "post": Whole(0, 0, 2),
        "target_recall": TARGET_RECALL,
    }
    advice: ClassVar[str] = "Raise m or ef_construction, or set post to 2,"
