"""A generation in the admin: what it is, and how its recall goes with time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.template.defaultfilters import filesizeformat
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel
from search.curves import DESK, PHONE, Drawing, curve_of, is_read_whole
from search.indexing import rebuild_index
from search.models import IndexGeneration
from tests.search.vectors import make_model, store

pytestmark = pytest.mark.django_db

MEASURED = [
    {"width": 16, "recall": 0.91, "p50_ms": 0.05, "p95_ms": 0.08, "serves": False},
    {"width": 24, "recall": 0.95, "p50_ms": 0.07, "p95_ms": 0.1, "serves": False},
    {"width": 32, "recall": 0.985, "p50_ms": 0.09, "p95_ms": 0.13, "serves": True},
    {"width": 48, "recall": 0.996, "p50_ms": 0.6, "p95_ms": 0.9, "serves": False},
]


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def generation(measured: list[dict[str, Any]], **changes: Any) -> IndexGeneration:
    parameters = {"metric": "l2", "options": {"target_recall": 0.98}, "measured": {"curve": measured, "stragglers": 3}}
    facts = {
        **{"status": "published", "recall": 0.985, "published_at": timezone.now(), "parameters": parameters},
        **{"count": 20_000, "bytes": 5_000_000},
    }
    return IndexGeneration(
        embedding_model=make_model(), name="00000007-5e0c91aa", engine="nmslib_hnsw", **{**facts, **changes}
    )


def page(client: Client, row: IndexGeneration) -> str:
    answer = client.get(reverse("admin:search_indexgeneration_change", args=[row.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def assert_within_its_axes(drawing: Drawing) -> None:
    size = drawing.size
    assert all(size.left <= dot.x <= size.x_end for dot in drawing.dots)
    assert all(size.top <= dot.y <= size.y_end for dot in drawing.dots)


@pytest.mark.parametrize("number", [0, 1], ids=["desk", "phone"])
def test_the_curve_lies_within_its_axes_and_rises_to_the_right(number: int) -> None:
    curve = curve_of(generation(MEASURED))
    assert curve is not None
    drawing = curve.drawings[number]
    across, up = [dot.x for dot in drawing.dots], [dot.y for dot in drawing.dots]
    assert across == sorted(across)
    assert up == sorted(up, reverse=True)  # in an SVG y goes down
    assert_within_its_axes(drawing)
    assert [dot.point.width for dot in drawing.dots if dot.point.serves] == [32]
    assert drawing.target_y is not None
    assert up[2] < drawing.target_y < up[1]  # 0.98 is asked, 0.985 reaches it
    assert curve.in_words.endswith("0.985 at 0.09 ms serves")


def test_its_words_have_room_on_a_phone(staff: Client) -> None:
    """13 units to a letter's height are 12 pixels there; a letter is some 7 wide."""
    row = generation(MEASURED)
    row.save()
    text = page(staff, row)
    assert f'class="vs-desk" viewBox="0 0 {DESK.width} {DESK.height}"' in text
    assert f'class="vs-phone" viewBox="0 0 {PHONE.width} {PHONE.height}"' in text
    assert PHONE.width <= 320
    curve = curve_of(row)
    assert curve is not None
    for drawing in curve.drawings:
        assert max(len(tick.text) for tick in drawing.up) * 7 <= drawing.size.left - 8
        apart = np.diff([tick.at for tick in drawing.across])
        assert len(drawing.across) >= 2
        assert (apart >= 7 * max(len(tick.text) for tick in drawing.across)).all()


def timed(*times: float) -> list[Drawing]:
    curve = curve_of(generation([{**point, "p50_ms": ms} for point, ms in zip(MEASURED, times, strict=True)]))
    assert curve is not None
    return list(curve.drawings)


def test_a_busy_machine_does_not_make_the_curve_run_backwards() -> None:
    for drawing in timed(0.088, 0.068, 0.048, 0.08):
        assert_within_its_axes(drawing)
        first, second, third, last = [dot.x for dot in drawing.dots]
        assert first == second == third < last


def test_times_that_hardly_differ_are_not_drawn_far_apart() -> None:
    for drawing in timed(0.046, 0.0461, 0.0463, 0.0464):
        assert_within_its_axes(drawing)
        assert drawing.dots[-1].x - drawing.dots[0].x < 5


@pytest.mark.parametrize(
    "measured",
    [
        [{**point, "recall": 1.0} for point in MEASURED],
        [{**point, "p50_ms": 0.05, "p95_ms": 0.05} for point in MEASURED],
        [{**point, "recall": 0.3 + 0.001 * n} for n, point in enumerate(MEASURED)],
    ],
    ids=["all right", "all equally fast", "poor"],
)
@pytest.mark.parametrize("target", [None, 0.98])
def test_a_curve_without_a_slope_can_be_drawn(measured: list[dict[str, Any]], target: float | None) -> None:
    row = generation(measured)
    row.parameters["options"] = {"target_recall": target} if target else {}
    curve = curve_of(row)
    assert curve is not None
    for drawing in curve.drawings:
        assert all(np.isfinite([dot.x, dot.y]).all() for dot in drawing.dots)
        assert_within_its_axes(drawing)
        assert len(drawing.up) <= 7
        assert 1 <= len(drawing.across) <= 10


@pytest.mark.parametrize("measured", [[], MEASURED[:1]], ids=["an engine without a width", "one width"])
def test_where_there_is_nothing_to_choose_nothing_is_drawn(measured: list[dict[str, Any]], staff: Client) -> None:
    row = generation(measured)
    row.save()
    assert curve_of(row) is None
    assert "<svg viewBox" not in page(staff, row)


@pytest.mark.parametrize(("count", "is_drawn"), [(60, False), (600, False), (700, True), (20_000, True)])
def test_the_curve_is_drawn_where_readers_ask_the_graph(staff: Client, count: int, is_drawn: bool) -> None:
    row = generation(MEASURED, count=count)  # it serves at 32
    row.save()
    assert (curve_of(row) is not None) == is_drawn == (not is_read_whole(row))
    shown = page(staff, row)
    assert ("Recall against time" in shown) == is_drawn
    assert ("So small an index is read exactly" in shown) == (not is_drawn)


def test_a_generation_that_was_built_shows_what_was_measured(
    staff: Client, shop: Collection, settings: Settings
) -> None:
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "default", "METRIC": "l2"}}
    EmbeddingModel.objects.filter(pipeline="face").delete()
    model = make_model(dimension=8)
    store(shop, model, *np.random.default_rng(0).normal(size=(60, 8)))
    row = rebuild_index(model)
    assert row.bytes is not None and 60 * 8 * 4 < row.bytes < 100_000
    for shown in (page(staff, row), staff.get(reverse("admin:search_health")).content.decode()):
        assert "So small an index is read exactly" in shown
        assert filesizeformat(row.bytes) in shown
    assert "nmslib" in page(staff, row)
    IndexGeneration.objects.update(count=20_000)  # as if
    for shown in (page(staff, row), staff.get(reverse("admin:search_health")).content.decode()):
        assert "Recall against time" in shown
        assert "asked of it: 0.98" in shown
        assert len(re.findall("<circle", shown)) >= 2 * 5
        assert shown.count('class="vs-serves"') == 2


def test_the_list_tells_whose_each_is_and_can_show_those_of_one_model(staff: Client) -> None:
    one = generation(MEASURED)
    one.save()
    two = make_model(embedder="other", fingerprint="e" * 64, state="retired")
    IndexGeneration.objects.create(embedding_model=two, name="00000003-aaaaaaaa", engine="milvus")
    address = reverse("admin:search_indexgeneration_changelist")
    text = staff.get(address).content.decode()
    assert f"face: {one.embedding_model}" in text and f"face: {two}" in text
    assert filesizeformat(5_000_000) in text
    assert f"?embedding_model__id__exact={two.pk}" in text  # of the filter
    text = staff.get(address, {"embedding_model__id__exact": str(two.pk)}).content.decode()
    assert "00000003-aaaaaaaa" in text and one.name not in text


def test_a_build_that_failed_says_why_and_shows_no_figures(staff: Client) -> None:
    row = generation([], status="failed", reason="The disk is <full>.", recall=None, parameters={}, published_at=None)
    row.save()
    assert "The disk is &lt;full&gt;." in page(staff, row)


@pytest.mark.parametrize(
    ("asked", "said"),
    [("", "There are no index generations yet."), ("?status__exact=failed", "Nothing fits.")],
    ids=["none", "none of those asked for"],
)
def test_an_empty_list_says_so_and_offers_nothing_that_nobody_can_do(staff: Client, asked: str, said: str) -> None:
    shown = staff.get(reverse("admin:search_indexgeneration_changelist") + asked).content.decode()
    assert said in shown
    assert "Create a new item" not in shown
    assert "Add index generation" not in shown


def test_what_can_be_added_is_offered_in_an_empty_list(staff: Client) -> None:
    shown = staff.get(reverse("admin:catalog_collection_changelist")).content.decode()
    assert "There are no collections yet." in shown
    assert reverse("admin:catalog_collection_add") in shown


def test_a_generation_is_called_by_its_name(staff: Client) -> None:
    row = generation(MEASURED)
    row.save()
    shown = page(staff, row)
    assert row.name in shown
    assert f"of {row.embedding_model_id}" not in shown
