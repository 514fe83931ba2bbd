"""What the catalogue can say no to. Every one has a stable ``code`` and a sentence that says what to do."""

from __future__ import annotations

from catalog.vision.errors import ImageRefused, ModelUnavailable, VisionError


class CatalogError(Exception):
    """Base of what this module adds."""

    code = "catalog-error"


class StorageUnavailable(CatalogError):
    """The file could not be written: a full disk, a read-only folder. Nothing of it was kept."""

    code = "storage-unavailable"


class NoServingModel(CatalogError):
    """A pipeline has no embedding model that serves."""

    code = "no-serving-model"


__all__ = ["CatalogError", "ImageRefused", "ModelUnavailable", "NoServingModel", "StorageUnavailable", "VisionError"]
