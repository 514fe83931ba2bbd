"""keras-vggface in a process of its own."""

from __future__ import annotations

from pathlib import Path

from catalog.vision.originals.client import Original

_PROGRAM = "catalog.vision.originals.programs.vggface_tensorflow"


def original(
    architecture: str, file: str = "", sha256: str = "", *, threads: int = 0, answer_seconds: float = 60
) -> Original:
    """The network "vgg16", "resnet50" or "senet50" with the weights of an .h5 file, random ones where none is named."""
    arguments = [architecture, str(Path(file).resolve()), sha256] if file else [architecture]
    name = f"keras-vggface-{architecture}"
    return Original(name, _PROGRAM, arguments, threads=threads, answer_seconds=answer_seconds, stateless=True)
