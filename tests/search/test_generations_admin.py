"""A generation in the admin: what it is, and how its recall goes with time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from catalog.models import Collection, EmbeddingModel
from search.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve_of
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
    facts = {"status": "published", "recall": 0.985, "published_at": timezone.now(), "parameters": parameters}
    return IndexGeneration(
        embedding_model=make_model(), name="00000007-5e0c91aa", engine="nmslib_hnsw", **{**facts, **changes}
    )


def page(client: Client, row: IndexGeneration) -> str:
    answer = client.get(reverse("admin:search_indexgeneration_change", args=[row.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_curve_lies_within_its_axes_and_rises_to_the_right() -> None:
    curve = curve_of(generation(MEASURED))
    assert curve is not None
    across, up = [point.x for point in curve.points], [point.y for point in curve.points]
    assert across == sorted(across)
    assert up == sorted(up, reverse=True)  # in an SVG y goes down
    assert all(LEFT < x < WIDTH - RIGHT for x in across)
    assert all(TOP <= y <= HEIGHT - BOTTOM for y in up)
    assert [point.width for point in curve.points if point.serves] == [32]
    assert curve.target_y is not None
    assert up[2] < curve.target_y < up[1]  # 0.98 is asked, 0.985 reaches it
    assert curve.in_words.endswith("0.985 at 0.09 ms serves")


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
    assert all(np.isfinite([point.x, point.y]).all() for point in curve.points)
    assert all(TOP <= point.y <= HEIGHT - BOTTOM for point in curve.points)
    assert len(curve.up) <= 7
    assert 1 <= len(curve.across) <= 10


@pytest.mark.parametrize("measured", [[], MEASURED[:1]], ids=["an engine without a width", "one width"])
def test_where_there_is_nothing_to_choose_nothing_is_drawn(measured: list[dict[str, Any]], staff: Client) -> None:
    row = generation(measured)
    row.save()
    assert curve_of(row) is None
    assert "<svg viewBox" not in page(staff, row)


def test_a_generation_that_was_built_shows_what_was_measured(
    staff: Client, shop: Collection, settings: Settings
) -> None:
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "face": {"ENGINE": "default", "METRIC": "l2"}}
    EmbeddingModel.objects.filter(pipeline="face").delete()
    model = make_model(dimension=8)
    store(shop, model, *np.random.default_rng(0).normal(size=(60, 8)))
    shown = page(staff, rebuild_index(model))
    assert "Recall against time" in shown
    assert "asked of it: 0.98" in shown
    assert len(re.findall("<circle", shown)) >= 5
    assert shown.count('class="vs-serves"') == 1
    assert "nmslib" in shown
    assert "Recall against time" in staff.get(reverse("admin:search_health")).content.decode()


def test_a_build_that_failed_says_why_and_shows_no_figures(staff: Client) -> None:
    row = generation([], status="failed", reason="The disk is <full>.", recall=None, parameters={}, published_at=None)
    row.save()
    assert "The disk is &lt;full&gt;." in page(staff, row)
