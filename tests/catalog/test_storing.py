"""Keeping what was found, when something has changed while it was being found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog.models import Collection, Embedding, Image, Region
from catalog.processing import process_batch
from tests.cast import make_face
from tests.drawn import photo
from tests.fakes import MeanColour
from tests.library import put_image

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
