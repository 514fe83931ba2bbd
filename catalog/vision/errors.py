"""What can go wrong in the vision code, in words for the person who has to do something about it."""

from __future__ import annotations

import errno


class VisionError(Exception):
    """Base of this module. ``code`` is stable and machine-readable, ``str()`` is a sentence that says what to do."""

    code = "vision-error"


class ImageRefused(VisionError):
    """The file is not an image we take. Nothing was stored; sending the same file again gives the same answer."""

    def __init__(self, code: str, message: str, **limits: object) -> None:
        super().__init__(message)
        self.code = code
        self.limits = limits  # what was hit, e.g. {"limit": 52428800, "actual": 314572800}


class DecoderUnavailable(VisionError, OSError):
    """No process that decodes can be had, or the machine leaves it no time: no fault of the file. Try it again."""

    code = "decoder-unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(errno.EAGAIN, message)

    def __str__(self) -> str:
        return str(self.strerror)


class DecoderStarved(DecoderUnavailable):
    """A process had the file, and the machine left it no time, or the file stopped it. Worth a few tries, not more."""


class ModelUnavailable(VisionError):
    """A network's files are missing, altered or unusable. Images wait; nothing is marked failed because of it."""

    code = "model-unavailable"

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class ModelFailed(ModelUnavailable):
    """A network that starts gave no usable numbers for what it was asked. Of other inputs it may give some."""


def onnxruntime_words(error: Exception) -> str:
    """The first line of what onnxruntime raised, without its own heading, as a sentence."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.removeprefix("[ONNXRuntimeError] : ")[:300].rstrip(" .") + "."
