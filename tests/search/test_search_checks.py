"""System checks of the indexes: their ids, and that a sound site has none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

EXACT = {"exact": {"BACKEND": "search.engines.exact.Exact", "OPTIONS": {}}}
ALL = {name: {"ENGINE": "exact", "METRIC": "l2"} for name in ("face", "image", "digit")}


def found() -> list[str]:
    return [str(message.id) for message in run_checks() if str(message.id).startswith("search.")]


def test_the_default_settings_are_sound() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({"VISEARCH_ENGINES": {"default": {"BACKEND": "nowhere.Engine"}, **EXACT}}, ["search.E001"]),
        ({"VISEARCH_ENGINES": {"default": {**EXACT["exact"], "OPTIONS": {"m": 1}}, **EXACT}}, ["search.E001"]),
        ({"VISEARCH_ENGINES": None}, ["search.E001"]),
        ({"VISEARCH_ENGINES": EXACT, "VISEARCH_INDEXES": ALL}, []),
        ({"VISEARCH_INDEXES": {**ALL, "face": {"ENGINE": "nobody", "METRIC": "l2"}}}, ["search.E002"]),
        ({"VISEARCH_INDEXES": {name: {"ENGINE": "exact", "METRIC": "L2"} for name in ALL}}, ["search.E002"] * 3),
        ({"VISEARCH_INDEXES": {"image": ALL["image"]}}, ["search.E003"] * 2),
        ({"VISEARCH_REBUILD_SHARE": 0}, ["search.E004"]),
        ({"VISEARCH_REBUILD_SHARE": 1.5}, ["search.E004"]),
        ({"VISEARCH_REBUILD_ROWS": 0}, ["search.E004"]),
    ],
)
def test_what_an_operator_can_get_wrong(settings: Settings, changes: dict[str, Any], ids: list[str]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert found() == ids


def test_every_message_says_what_to_do(settings: Settings) -> None:
    settings.VISEARCH_ENGINES, settings.VISEARCH_INDEXES = {"default": {}}, {}
    settings.VISEARCH_REBUILD_SHARE, settings.VISEARCH_REBUILD_ROWS = 2.0, 0
    messages = [message for message in run_checks() if str(message.id).startswith("search.")]
    assert {message.id for message in messages} == {"search.E001", "search.E003", "search.E004"}
    assert all(message.hint for message in messages)


def test_checking_does_not_load_nmslib() -> None:
    program = (
        "import sys, django; django.setup()\n"
        "from django.core.checks import run_checks\n"
        "run_checks()\n"
        "assert 'search.engines.nmslib_hnsw' in sys.modules and 'nmslib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
