"""What cannot be done, in sentences for whoever tried."""

from __future__ import annotations

from catalog.exceptions import CatalogError

# Of every name that is taken, so that nobody learns whether it is taken where they may not look.
NAME_TAKEN = "This name cannot be used here. Choose another, or ask an administrator."


class CurationError(CatalogError):
    """Its words say what to do and may be shown to whoever tried."""

    code = "conflict"


class Gone(CurationError):
    """Somebody deleted it meanwhile."""


class FaceChanged(CurationError):
    """Somebody else named the face, or took its name off, since it was looked at."""


class NotAFace(CurationError):
    """A region of the whole image was treated as a face."""


class BadName(CurationError):
    """No name: empty, too long, with control characters."""


class BadBox(CurationError):
    """A box outside of its image, or too small."""


class NameTaken(CurationError):
    def __init__(self) -> None:
        super().__init__(NAME_TAKEN)
