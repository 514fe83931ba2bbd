"""Two models on more labelled images than are held at once: what is drawn, and what is said of the rest."""

from __future__ import annotations

import pytest

from catalog.embedding_models import serving_model
from catalog.models import Collection, Embedding, EmbeddingModel, Region
from search.evaluation.labelled import rank_of
from search.switching import background
from search.switching.comparing import ONE_SIDED, compare_on_collection
from tests.library import ready, squares

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("most", [8, 11])
def test_of_many_both_are_compared_on_the_same_though_one_lacks_some(
    shop: Collection, other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for label, colour in enumerate(("red", "blue", "yellow")):
        for number in range(4):
            ready(shop, squares((10 + 7 * number, 10 + 5 * label, 40, colour)), label=colour, title=f"{colour}{number}")
    background.ask(other)
    background.fill_a_while()
    regions = sorted(Region.objects.filter(pipeline="image"), key=lambda region: rank_of(str(region.pk)))
    Embedding.objects.filter(model=other, region=regions[0]).delete()
    monkeypatch.setattr("search.evaluation.collections.MOST_STORED", most)
    pair = compare_on_collection(serving_model("image"), other, shop)
    present, second = pair.present.figures["catalogue"], pair.other.figures["catalogue"]
    assert present["vectors"] == second["vectors"] == most - 1
    assert [each["reason"] for each in present["left_out"]["names"]] == [ONE_SIDED]
    assert present["left_out"]["names"][0]["name"] == regions[0].image.title
    assert second["left_out"]["count"] == 0
    assert (present["drawn_from"], second["drawn_from"]) == (12, 11)
