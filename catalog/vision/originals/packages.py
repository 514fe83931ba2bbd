"""Packages that an original runs on. They are looked up, never imported: importing them imports TensorFlow."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

REQUIREMENTS = "requirements/tensorflow.txt"


# Distributions that bring the same package.
_INSTEAD = {"tensorflow": ("tensorflow-cpu", "tensorflow-rocm", "tensorflow-intel", "intel-tensorflow")}


@dataclass(frozen=True, slots=True)
class Packages:
    """Distributions (their names on the index) that must all be installed, or one that brings the same package."""

    names: tuple[str, ...]

    def problem(self, model: str) -> str | None:
        """A sentence that names what is missing and says what to do, or None."""
        missing = [name for name in self.names if not _installed(name)]
        if not missing:
            return None
        return (
            f"The model {model} runs on {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed: run `pip install -r {REQUIREMENTS}`, or choose another model in the settings."
        )

    def versions(self) -> str:
        """As "mtcnn 1.0.0 on tensorflow 2.21.0". Raises PackageNotFoundError."""
        return " on ".join(f"{name} {_version(name)}" for name in self.names)


def _installed(name: str) -> bool:
    try:
        _version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _version(name: str) -> str:
    for other in _INSTEAD.get(name, ()):
        with suppress(metadata.PackageNotFoundError):
            return f"{metadata.distribution(other).version} ({other})"
    return metadata.distribution(name).version


MTCNN_ON_TENSORFLOW = Packages(("mtcnn", "tensorflow"))
VGGFACE_ON_TENSORFLOW = Packages(("keras-vggface", "keras-applications", "tf-keras", "tensorflow"))
