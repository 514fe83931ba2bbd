"""How alike two images are, for people."""

from __future__ import annotations

NEARLY = 4  # bits of 64: another size or compression; more is a crop, or another photo of the same


def likeness(distance: int, is_mirrored: bool) -> str:
    """Of the Hamming distance of their perceptual hashes: "the same", "nearly the same" or "similar", "mirrored"."""
    words = "the same" if distance == 0 else "nearly the same" if distance <= NEARLY else "similar"
    return f"{words}, mirrored" if is_mirrored else words
