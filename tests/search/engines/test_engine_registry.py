"""VISEARCH_ENGINES and VISEARCH_INDEXES: what they lead to, and what a bad one says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from search.engines.exact import Exact
from search.engines.nmslib_hnsw import NmslibHnsw
from search.engines.registry import configured_engine, configured_index, index_for
from search.engines.types import Metric

NMSLIB = "search.engines.nmslib_hnsw.NmslibHnsw"


def test_the_index_of_a_model(settings: Settings, tmp_path: Path) -> None:
    settings.VISEARCH_INDEXES_DIR = tmp_path
    settings.VISEARCH_ENGINES = {"fast": {"BACKEND": NMSLIB, "OPTIONS": {"m": 24}}}
    settings.VISEARCH_INDEXES = {"face": {"ENGINE": "fast", "METRIC": "cosine"}}
    engine, spec = index_for("face", "0123456789abcdef" * 4, 128)
    assert isinstance(engine, NmslibHnsw)
    assert spec.root == tmp_path / "face-0123456789ab"
    assert (spec.fingerprint, spec.dimension, spec.metric) == ("0123456789abcdef" * 4, 128, Metric.COSINE)
    assert spec.options["m"] == 24
    assert spec.options["target_recall"] == 0.98


def test_a_changed_setting_counts_at_once(settings: Settings) -> None:
    settings.VISEARCH_ENGINES = {"one": {"BACKEND": NMSLIB, "OPTIONS": {}}}
    settings.VISEARCH_INDEXES = {"face": {"ENGINE": "one", "METRIC": "l2"}}
    assert isinstance(configured_index("face").engine.engine, NmslibHnsw)
    settings.VISEARCH_ENGINES = {"one": {"BACKEND": "search.engines.exact.Exact"}}
    assert isinstance(configured_index("face").engine.engine, Exact)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "must be a dict"),
        ({"BACKEND": "search.engines.nowhere.Engine"}, "cannot be imported"),
        ({"BACKEND": "search.engines.exact.NotThere"}, "cannot be imported"),
        ({"OPTIONS": {}}, "cannot be imported"),
        ({"BACKEND": "search.engines.types.Metric"}, "is no index engine"),
        ({"BACKEND": NMSLIB, "OPTIONS": {"M": 16}}, "unknown option M"),
        ({"BACKEND": NMSLIB, "OPTIONS": {"m": 0}}, "m is a whole number"),
        ({"BACKEND": NMSLIB, "OPTIONS": [1]}, "OPTIONS"),
        ({"BACKEND": NMSLIB, "options": {}}, "unknown key 'options'"),
    ],
)
def test_a_bad_engine_is_named(settings: Settings, entry: Any, words: str) -> None:
    settings.VISEARCH_ENGINES = {"mine": entry}
    with pytest.raises(ImproperlyConfigured, match=rf"VISEARCH_ENGINES\['mine'\].*{words}"):
        configured_engine("mine")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"ENGINE": "exact", "METRIC": "manhattan"}, "'l2', 'cosine'"),
        ({"ENGINE": "exact"}, "METRIC"),
        ({"ENGINE": "nobody", "METRIC": "l2"}, "VISEARCH_ENGINES does not name"),
        ({"METRIC": "l2"}, "VISEARCH_ENGINES does not name"),
        ("exact", "must be a dict"),
    ],
)
def test_a_bad_index_is_named(settings: Settings, entry: Any, words: str) -> None:
    settings.VISEARCH_INDEXES = {"face": entry}
    with pytest.raises(ImproperlyConfigured, match=rf"VISEARCH_INDEXES\['face'\].*{words}"):
        configured_index("face")


def test_a_pipeline_without_an_index_is_named(settings: Settings) -> None:
    settings.VISEARCH_INDEXES = {}
    with pytest.raises(ImproperlyConfigured, match=r"VISEARCH_INDEXES\['face'\]"):
        index_for("face", "ab" * 32, 128)


@pytest.mark.parametrize(
    ("environment", "engine", "options"),
    [
        ({}, "nmslib_hnsw", {"m": 16}),
        ({"VISEARCH_ENGINE_OPTIONS": '{"m": 24, "post": 2}'}, "nmslib_hnsw", {"m": 24, "post": 2}),
        ({"VISEARCH_ENGINE": "exact"}, "exact", {}),
        ({"VISEARCH_ENGINE": "faiss"}, "faiss_hnsw", {"storage": "flat"}),
        (
            {"VISEARCH_ENGINE": "faiss-fp16", "VISEARCH_ENGINE_OPTIONS": '{"target_recall": 0.9}'},
            "faiss_hnsw",
            {"storage": "fp16", "target_recall": 0.9},
        ),
    ],
)
def test_the_environment_chooses_the_engine_of_all_pipelines(
    environment: dict[str, str], engine: str, options: dict[str, Any]
) -> None:
    program = """
import json, django
django.setup()
from search.engines.registry import configured_index, index_pipelines
found = [configured_index(pipeline).engine for pipeline in index_pipelines()]
print(json.dumps([[each.engine.name, dict(each.options)] for each in found]))
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VISEARCH_ENGINE")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name for name, _ in found} == {engine}
    assert all(given.items() >= options.items() for _, given in found)
