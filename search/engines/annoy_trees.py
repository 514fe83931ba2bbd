"""A forest of random trees by Annoy: a file that the processes of a machine share, for sets that seldom change.

Slower than HNSW at equal recall, and slower the more so the higher the recall. Last released in 2023; optional, needs a
compiler: requirements/annoy.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from search.engines.graph_engine import GraphEngine
from search.engines.options import TARGET_RECALL, Option, Whole


class AnnoyTrees(GraphEngine):
    """Its options, with what they may be:

    - ``n_trees``, 1 to 1000: more give a better recall for the same work, a larger file and a longer build.
    - ``target_recall``, 0.5 to 0.999: the recall@10 against exact search that search_k of every build is tuned to.
    """

    name: ClassVar[str] = "annoy"
    package: ClassVar[str] = "annoy"
    requirements: ClassVar[str] = "annoy"
    library: ClassVar[str] = "search.engines.annoy_graph"
    options: ClassVar[Mapping[str, Option]] = {"n_trees": Whole(50, 1, 1000), "target_recall": TARGET_RECALL}
    advice: ClassVar[str] = "Raise n_trees"
