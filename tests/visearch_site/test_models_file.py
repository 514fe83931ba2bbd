"""A file of models beside the settings: what it may hold, and that what the documentation shows works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from catalog.vision import registry
from visearch_site.models_file import read_models_file

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "models.md"
DESCRIBED = """
import django
django.setup()
from catalog.vision import registry
from django.conf import settings
print([(about.pipeline, about.name) for about in registry.descriptions()], settings.VISEARCH_INDEXES["brought"])
"""
ENTRIES = """
[embedders.mine]
BACKEND = "tests.fakes.MeanColour"

[embedders.other]
BACKEND = "tests.fakes.MeanColour"

[pipelines.brought]
DETECTOR = "frame"
EMBEDDERS = ["mine"]

[pipelines.image]
DETECTOR = "frame"
EMBEDDERS = ["efficientnet-lite0", "other"]

[indexes.brought]
ENGINE = "exact"
METRIC = "cosine"
"""


def test_its_entries_join_the_settings_and_replace_those_of_their_name(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ENTRIES)
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBED],
        cwd=ROOT,
        env={**os.environ, "VISEARCH_MODELS_FILE": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "('face', 'dlib-resnet'), ('image', 'efficientnet-lite0'), ('image', 'other')" in done.stdout
    assert "('brought', 'mine')" in done.stdout and "'METRIC': 'cosine'" in done.stdout


@pytest.mark.parametrize(
    "command",
    [["-c", "import visearch_site.wsgi"], ["-m", "celery", "-A", "visearch_site", "worker", "--pool", "solo"]],
    ids=["web", "worker"],
)
def test_neither_web_nor_worker_starts_with_entries_that_cannot_work(tmp_path: Path, command: list[str]) -> None:
    """They run no system checks, as `manage.py` does."""
    file = tmp_path / "models.toml"
    file.write_text(ENTRIES.replace('EMBEDDERS = ["mine"]', "EMBEDDERS = 5"))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "VISEARCH_MODELS_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "VISEARCH_PIPELINES['brought'] needs the name of a DETECTOR and a list" in done.stderr


def test_without_a_file_there_are_no_entries() -> None:
    assert set(map(len, read_models_file("").values())) == {0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"models\.toml cannot be read \(No such file"),
        (b"[embedders.mine\n", r"models\.toml is not TOML: .*line 1"),
        (b"\xff\xfe", "cannot be read .it is not UTF-8"),
        (b"[engines.fast]\n", "may have the tables detectors, embedders, pipelines, indexes, not 'engines'"),
        (b"embedders = 5\n", r"write \[embedders.NAME\]"),
        (b'[embedders]\nBACKEND = "x"\n', r"write \[embedders.NAME\]"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "models.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=f"VISEARCH_MODELS_FILE: .*{says}"):
        read_models_file(str(file))


def documented() -> list[dict[str, Any]]:
    return [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)]


def test_what_the_documentation_shows_is_accepted(settings: Settings) -> None:
    names = [name for block in documented() for name in block.get("embedders", {})]
    assert {"arcface", "dinov2", "clip"} <= set(names)
    for block in documented():
        for setting, entries in block.items():
            name = f"VISEARCH_{setting.upper()}"
            setattr(settings, name, {**getattr(settings, name), **entries})
    for name in names:
        settings.VISEARCH_PIPELINES = {"brought": {"DETECTOR": "frame", "EMBEDDERS": [name]}}
        assert registry.describe(name).licence != "not stated"


def test_the_documented_values_are_those_of_their_sources() -> None:
    """insightface (arcface_onnx.py), facebookresearch/dinov2 (data/transforms.py), openai/CLIP (clip.py)."""
    shown = {name: entry["OPTIONS"] for block in documented() for name, entry in block.get("embedders", {}).items()}
    assert (shown["arcface"]["scale"], shown["arcface"]["mean"], shown["arcface"]["std"]) == (255, 127.5, 127.5)
    assert (shown["arcface"]["template"], shown["arcface"]["input_size"]) == ("arcface-112", 112)
    assert (shown["dinov2"]["mean"], shown["dinov2"]["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (shown["dinov2"]["short_side"], shown["dinov2"]["input_size"]) == (256, 224)
    assert shown["clip"]["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert shown["clip"]["std"] == [0.26862954, 0.26130258, 0.27577711]
