"""Index engines: ids and vectors in, nearest ids and exact distances out. Which engine runs says ``registry``."""

from search.engines.errors import BuildFailed, EngineError, IndexDamaged, IndexNotBuilt, InvalidVector
from search.engines.protocols import IndexEngine, IndexReader, IndexWriter
from search.engines.types import EVERYWHERE, Hits, IndexSpec, Metric, Scope

__all__ = [
    "EVERYWHERE",
    "BuildFailed",
    "EngineError",
    "Hits",
    "IndexDamaged",
    "IndexEngine",
    "IndexNotBuilt",
    "IndexReader",
    "IndexSpec",
    "IndexWriter",
    "InvalidVector",
    "Metric",
    "Scope",
]
