"""What the engines with a graph share: one child process builds it, another measures it, a GraphReader answers.

An engine adds its options and names the library module that does the work (search.engines.graph_library).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from search.engines.child import run_child
from search.engines.folder_engine import Built, FolderEngine
from search.engines.generations import Stamp
from search.engines.graph_library import Graph, graph_library
from search.engines.graph_reader import GraphReader
from search.engines.incoming import RowCount
from search.engines.manifest import Manifest
from search.engines.options import Option, checked_options
from search.engines.types import IndexSpec, Progress


class GraphEngine(FolderEngine):
    """``package`` is the library's distribution, ``requirements`` the file that pins it, ``library`` our module.

    ``advice``: what to change where no search width reaches the target recall.
    """

    package: ClassVar[str]
    requirements: ClassVar[str]
    library: ClassVar[str]
    options: ClassVar[Mapping[str, Option]]
    advice: ClassVar[str]

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ValueError also where the library is not installed."""
        cls._library_version()
        return checked_options(cls.options, options)

    def build(self, folder: Path, spec: IndexSpec, rows: RowCount, progress: Progress | None = None) -> Built:
        libraries = {self.package: self._library_version()}
        if rows.count == 0:
            return Built({"recall": 1.0, "nodes": 0}, libraries)
        request = {
            "library": self.library,
            "metric": spec.metric.value,
            "options": dict(spec.options),
            "advice": self.advice,
        }
        built = run_child("search.engines.graph_build", folder, request, progress)
        verified = run_child("search.engines.graph_verify", folder, request, progress)
        return Built({**built, **verified}, libraries)

    def reader(self, folder: Path, manifest: Manifest, stamp: Stamp | None) -> GraphReader:
        return GraphReader(folder, manifest, stamp, self._open_graph)

    @classmethod
    def _open_graph(cls, folder: Path, manifest: Manifest, nodes: int) -> Graph:
        library = graph_library(cls.library)
        return library.Graph(folder / library.FILE, nodes, manifest.dimension, int(manifest.measured[library.WIDTH]))

    @classmethod
    def _library_version(cls) -> str:
        try:
            return version(cls.package)
        except PackageNotFoundError as error:
            raise ValueError(
                f"{cls.package} is not installed: pip install -r requirements/{cls.requirements}.txt"
            ) from error
