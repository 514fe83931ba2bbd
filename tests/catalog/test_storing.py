"""Keeping what was found, when something has changed while it was being found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from django.db import transaction
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog import storage
from catalog.database import locked_against_deletion
from catalog.models import Collection, Embedding, Image, Region
from catalog.processing import process_batch
from tests.cast import make_face
from tests.drawn import photo
from tests.fakes import MeanColour
from tests.library import InThread, put_image, waiting_for_a_lock

pytestmark = pytest.mark.django_db


def test_a_drawn_face_deleted_while_it_is_embedded_is_left_out(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put_image(shop, photo(1, (60, 40)))
    gone, kept = (make_face(image, origin=Region.Origin.PERSON) for _ in range(2))
    embed = MeanColour.embed

    def delete_and_embed(self: MeanColour, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        Region.objects.filter(pk=gone.pk).delete()
        return embed(self, crops)

    monkeypatch.setattr(MeanColour, "embed", delete_and_embed)
    process_batch()
    assert Image.objects.get().status == "ready"
    assert list(Embedding.objects.filter(region__origin="person").values_list("region", flat=True)) == [kept.pk]


@pytest.mark.parametrize(
    "value", [0.0, np.nan, np.inf, 1e-8, 1e16, 3e38], ids=["zero", "nan", "infinite", "short", "long", "longest"]
)
def test_a_vector_that_no_index_can_hold_is_not_stored(
    shop: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    put_image(shop, photo(1, (60, 40)))
    dimension = MeanColour.CARD.dimension
    monkeypatch.setattr(
        MeanColour, "embed", lambda self, crops: np.full((len(crops), dimension), value, dtype=np.float32)
    )
    process_batch()
    image = Image.objects.get()
    assert image.status == "failed"
    assert "norm" in caplog.text
    assert not Embedding.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_who_refers_to_an_image_need_not_wait_for_its_renditions(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noting near duplicates does, under a lock that all who store in the collection wait for."""
    image = put_image(shop, photo(1, (60, 40)))
    waited: list[int] = []

    def refer() -> None:
        with transaction.atomic():
            locked_against_deletion(Image, [image.pk])

    def save_slowly(*_: object) -> None:
        thread = InThread(refer)
        thread.join(1)
        waited.append(waiting_for_a_lock())

    monkeypatch.setattr(storage, "save_renditions", save_slowly)
    process_batch()
    assert waited == [0]
    assert Image.objects.get().status == "ready"
