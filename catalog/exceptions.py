"""What the catalogue can say no to. Every one has a stable ``code`` and a sentence that says what to do."""

from __future__ import annotations

from catalog.vision.errors import DecoderUnavailable, ImageRefused, ModelUnavailable, VisionError


class CatalogError(Exception):
    """Base of what this module adds."""

    code = "catalog-error"


class StorageUnavailable(CatalogError):
    """A file cannot be written (a full disk, a read-only folder; nothing of it was kept) or read."""

    code = "storage-unavailable"
    full = "disk-full"  # the code of that one cause

    def __init__(self, message: str, code: str = code) -> None:
        super().__init__(message)
        self.code = code


class NoServingModel(CatalogError):
    """A pipeline has no embedding model that serves."""

    code = "no-serving-model"


class ModelChanged(ModelUnavailable):
    """Settings, code or weights have changed since the model began to serve. Its words may be shown to anybody."""


class ModelSwitched(CatalogError):
    """Another model began to serve while vectors of the one before were on their way. Doing it again helps."""

    code = "model-switched"


class CannotServe(CatalogError):
    """This embedding model may not serve, or not yet; the words say why and what to do."""

    code = "cannot-serve"


__all__ = [
    "CannotServe",
    "CatalogError",
    "DecoderUnavailable",
    "ImageRefused",
    "ModelChanged",
    "ModelSwitched",
    "ModelUnavailable",
    "NoServingModel",
    "StorageUnavailable",
    "VisionError",
]
