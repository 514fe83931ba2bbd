"""What a generation says of itself, and the proof that its files are the ones that were built."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from search.engines.durable import sha256_of, write_whole
from search.engines.errors import IndexDamaged
from search.engines.incoming import RowCount
from search.engines.types import IndexSpec, Metric

MANIFEST = "manifest.json"

# 1: ids.npy, collections.npy, vectors.npy; of engines with a graph also nodes.npy, stragglers.npy and the library's own
#    file: index.hnsw (NMSLIB), index.faiss, index.annoy.
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published generation. Everything that must agree between builder and reader, and what was measured.

    ``options`` are the engine's as given; ``measured`` is the engine's own (recall, ef_search, ...; the
    ``curve`` of a graph lists width, recall, p50_ms and p95_ms, see search.engines.graph_verify), and the ``bytes`` of
    its files, where it has some; ``files`` maps every other file of the folder to its sha256; ``libraries`` maps a
    package to its version. ``highest_id`` is 0 and ``count`` is 0 for an empty generation. ``created`` is ISO 8601 in
    UTC, ``build_seconds`` includes verification.
    """

    generation: str
    engine: str
    fingerprint: str
    dimension: int
    metric: Metric
    options: Mapping[str, Any]
    count: int
    highest_id: int
    created: str
    build_seconds: float
    measured: Mapping[str, Any]
    libraries: Mapping[str, str]
    files: Mapping[str, str]
    format_version: int = FORMAT_VERSION

    @classmethod
    def of_build(
        cls,
        spec: IndexSpec,
        rows: RowCount,
        *,
        generation: str,
        engine: str,
        started: float,
        measured: Mapping[str, Any],
        libraries: Mapping[str, str],
        files: Mapping[str, str],
    ) -> Self:
        """Of a build that ends now; ``started`` is what time.monotonic() said when it began."""
        return cls(
            generation=generation,
            engine=engine,
            fingerprint=spec.fingerprint,
            dimension=spec.dimension,
            metric=spec.metric,
            options=dict(spec.options),
            count=rows.count,
            highest_id=rows.highest_id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            build_seconds=round(time.monotonic() - started, 3),
            measured=dict(measured),
            libraries=dict(libraries),
            files=dict(files),
        )

    def write(self, folder: Path) -> str:
        """Write manifest.json into ``folder``; returns its sha256."""
        content = self.text().encode()
        write_whole(folder / MANIFEST, content)
        return hashlib.sha256(content).hexdigest()

    def text(self) -> str:
        """As JSON, for ``parsed_manifest``."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_manifest(folder: Path, sha256: str) -> Manifest:
    """The manifest of a generation whose own sha256 the pointer names. Raises IndexDamaged."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IndexDamaged(f"{path} cannot be read: {error.strerror}. Rebuild the index.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IndexDamaged(f"{path} is not the file that was published. Rebuild the index.")
    return parsed_manifest(content, str(path))


def parsed_manifest(content: str | bytes, where: str) -> Manifest:
    """What ``text`` wrote. Raises IndexDamaged for another format version, naming ``where`` it was found."""
    fields = json.loads(content)
    version = fields.get("format_version")
    if version != FORMAT_VERSION:
        raise IndexDamaged(
            f"{where} has format version {version}, this code reads {FORMAT_VERSION}. "
            f"Run the code that wrote it, or rebuild the index."
        )
    return Manifest(**{**fields, "metric": Metric(fields["metric"])})


def check_agrees(manifest: Manifest, spec: IndexSpec, engine: str) -> None:
    """Raises IndexDamaged unless the generation was built for this model, metric and engine."""
    pairs = {
        "embedding model": (manifest.fingerprint, spec.fingerprint),
        "dimension": (manifest.dimension, spec.dimension),
        "metric": (manifest.metric.value, spec.metric.value),
        "engine": (manifest.engine, engine),
    }
    for what, (built, asked) in pairs.items():
        if built != asked:
            raise IndexDamaged(
                f"Generation {manifest.generation} was built for the {what} {built!r}, not {asked!r}. "
                f"Rebuild the index."
            )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Raises IndexDamaged unless every file is byte for byte what was built. No library may open one before this."""
    for name, sha256 in manifest.files.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise IndexDamaged(f"{folder / name} cannot be read: {error.strerror}. Rebuild the index.") from error
        if found != sha256:
            raise IndexDamaged(f"{folder / name} was altered since it was built. Rebuild the index.")
