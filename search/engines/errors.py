"""What an index engine can say no to."""

from __future__ import annotations


class EngineError(Exception):
    """Base of this module."""


class IndexNotBuilt(EngineError):
    """There is no published generation yet."""


class IndexDamaged(EngineError):
    """The published generation is not what its manifest says: a file missing, altered, of another model or engine."""


class IndexUnreachable(EngineError):
    """The server that keeps the index does not answer, or not what it is asked: whether it is whole is not known."""


class InvalidVector(EngineError):
    """A vector that no index can answer for: wrong dimension, NaN, Inf, or a norm near zero."""


class BuildFailed(EngineError):
    """A generation did not pass its checks and was not published."""
