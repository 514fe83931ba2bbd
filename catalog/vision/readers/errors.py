"""The one error of the readers."""

from __future__ import annotations


class UnreadableWeights(ValueError):
    """The bytes are not what the reader takes, or ask for something that it does not give."""
