"""A labelled catalogue without images being looked at: rows with vectors that lie in classes."""

from __future__ import annotations

import hashlib

import numpy as np

from catalog.embedding_models import serving_model
from catalog.models import Collection, Person
from tests.cast import make_face, make_image
from tests.search.vectors import embed

SIGNAL = 3  # of the eight numbers that the fakes' embedder gives say what an image is of


def vectors(classes: int, each: int, noise: float = 1.0, seed: int = 5) -> np.ndarray:
    """float32 (classes, each, 8)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, 1, SIGNAL)) * 1.5
    signal = centres + 0.2 * random.standard_normal((classes, each, SIGNAL))
    rest = noise * random.standard_normal((classes, each, 8 - SIGNAL))
    return np.concatenate([signal, rest], axis=2).astype(np.float32)


def label_images(shop: Collection, classes: int = 8, each: int = 12, noise: float = 1.0) -> None:
    model = serving_model("image")
    for number, rows in enumerate(vectors(classes, each, noise)):
        for count, vector in enumerate(rows):
            image = make_image(shop, label=f"class {number}", sha256=_sha256(f"{shop.name} {number} {count}"))
            embed(make_face(image, pipeline="image"), model, vector)


def name_faces(shop: Collection, people: int = 6, each: int = 10) -> None:
    model = serving_model("face")
    for number, rows in enumerate(vectors(people, each)):
        person = Person.objects.create(name=f"person {number}")
        for count, vector in enumerate(rows):
            image = make_image(shop, sha256=_sha256(f"face {number} {count}"))
            embed(make_face(image, person), model, vector)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
