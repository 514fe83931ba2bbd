"""Taught heads: files that no setting names, found at once, and refused when they are not what was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from catalog.vision import heads, registry
from catalog.vision.errors import ModelUnavailable
from catalog.vision.extract import extract
from catalog.vision.protocols import Embedder
from search.teaching.comparing import moved
from tests.catalog.vision.contract import EmbedderContract
from tests.fakes import MeanColour, as_decoded, drawn_image
from tests.heads import LEARNED, keep_head, random_taught
from tests.library_fixtures import fakes, media
from tests.stack import ROOT

__all__ = ["fakes", "media"]
pytestmark = pytest.mark.usefixtures("fakes")
BASE = "image-colours"


@pytest.fixture
def own_heads(fakes: None) -> Path:
    """The folder of the heads of this test, which the first one makes."""
    return registry.models_dir() / heads.FOLDER


class TestTaughtEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, own_heads: Path) -> Embedder:
        return registry.embedder(keep_head().name)


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def vectors(count: int = 6) -> np.ndarray:
    return np.random.default_rng(3).uniform(0.1, 1, (count, 8)).astype(np.float32)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_file_computes_the_base_beside_what_was_taught(weight: float) -> None:
    head = keep_head(weight=weight)
    got = registry.derived_embedder(head.name).from_base(vectors())
    np.testing.assert_allclose(got, moved(vectors(), random_taught(8), weight), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_without_weight_all_similarities_are_the_bases() -> None:
    unit = vectors() / np.linalg.norm(vectors(), axis=1, keepdims=True)
    got = registry.derived_embedder(keep_head(weight=0.0).name).from_base(vectors())
    np.testing.assert_allclose(got @ got.T, unit @ unit.T, atol=1e-6)


def test_a_new_head_is_there_at_once_although_nobody_named_it() -> None:
    head = keep_head()
    with pytest.raises(ImproperlyConfigured, match="no entry"):
        registry.describe("colours-taught-000000000000")
    about, base = registry.describe(head.name), registry.describe(BASE)
    assert (about.pipeline, about.base, about.dimension) == ("image", BASE, 8 + LEARNED)
    assert (about.licence, about.source) == (base.licence, base.source)
    assert registry.fingerprint(head.name) == about.fingerprint != base.fingerprint
    assert registry.taught() == [head.name]
    assert registry.model_files_problem(head.name) is None
    other = keep_head(seed=2)
    assert registry.fingerprint(other.name) != about.fingerprint
    assert set(registry.taught()) == {head.name, other.name}
    assert registry.descriptions() == [registry.describe(name) for name in ("face-colours", BASE)]


def test_the_same_head_is_the_same_file() -> None:
    first = keep_head()
    assert keep_head().sha256 == first.sha256
    assert registry.taught() == [first.name]


def test_a_changed_base_is_another_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    name = keep_head().name
    before = registry.fingerprint(name)
    monkeypatch.setattr(MeanColour, "CARD", replace(MeanColour.CARD, version="2"))
    settings.VISEARCH_THREADS = 1  # any change forgets what was read
    assert registry.fingerprint(name) != before


def test_base_and_head_share_the_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    name = keep_head().name
    runs = []
    embed = MeanColour.embed
    monkeypatch.setattr(MeanColour, "embed", lambda self, crops: runs.append(len(crops)) or embed(self, crops))
    region = extract(as_decoded(drawn_image()), ["image"], {"image": [BASE, name]}).regions[0]
    assert runs == [1]
    alone = extract(as_decoded(drawn_image()), ["image"], {"image": [name]}).regions[0]
    assert set(alone.vectors) == {name}
    np.testing.assert_allclose(region.vectors[name], alone.vectors[name], atol=1e-6)
    expected = registry.derived_embedder(name).from_base(region.vectors[BASE][None])[0]
    np.testing.assert_allclose(region.vectors[name], expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".onnx", ".json"])
def test_a_missing_file_is_said_and_the_rest_works(own_heads: Path, suffix: str) -> None:
    name = keep_head().name
    (own_heads / name).with_suffix(suffix).unlink()
    (found,) = [check for check in checks.run_checks() if check.id == "catalog.W002"]
    assert "missing" in found.msg and "back from a backup" in found.msg
    assert registry.model_problems() == {}
    assert registry.embedder(BASE).embed([]).shape == (0, 8)


def test_an_altered_file_is_never_run(own_heads: Path) -> None:
    name = keep_head().name
    altered((own_heads / name).with_suffix(".onnx"))
    assert "was altered" in registry.taught_problems()[name]
    with pytest.raises(ModelUnavailable, match="was altered: put the folder"):
        registry.derived_embedder(name).from_base(vectors())


@pytest.mark.parametrize("content", [b"{", b"{}", b"[1]", b"null"])
def test_a_damaged_record_is_said(own_heads: Path, content: bytes) -> None:
    name = keep_head().name
    (own_heads / name).with_suffix(".json").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="is damaged"):
        registry.describe(name)
    assert "is damaged" in registry.taught_problems()[name]


def test_a_record_of_another_head_is_refused(own_heads: Path) -> None:
    first, second = keep_head(), keep_head(seed=2)
    records = [own_heads / f"{head.name}.json" for head in (first, second)]
    records[0].write_bytes(records[1].read_bytes())
    with pytest.raises(ModelUnavailable, match="another head"):
        registry.describe(first.name)


@pytest.mark.parametrize("name", ["", "Taught", "a b", "../a", "a--b", "-a", "a" * 61])
def test_a_name_that_is_no_plain_word_is_refused(own_heads: Path, name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        heads.keep(own_heads.parent, name, (BASE, "f"), random_taught(8), 0.3)
    assert not own_heads.exists()


def test_names_lead_to_no_other_folder(own_heads: Path) -> None:
    keep_head()
    outside = own_heads.parent / "outside-aaaaaaaaaaaa.json"
    outside.write_text(json.dumps({}))
    assert heads.find("../outside-aaaaaaaaaaaa", own_heads.parent) is None


def test_describing_a_head_loads_no_heavy_library(own_heads: Path) -> None:
    name = keep_head().name
    record = (own_heads / name).with_suffix(".json")
    record.write_text(record.read_text().replace(BASE, "efficientnet-lite0"))
    program = (
        "import sys, django\ndjango.setup()\nfrom catalog.vision import registry\n"
        f"print(registry.describe({name!r}).dimension, registry.taught_problems())\n"
        "heavy = ('onnxruntime', 'onnx', 'cv2', 'tensorflow', 'keras')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    env = {**os.environ, "VISEARCH_MODELS": str(own_heads.parent)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{8 + LEARNED} {{}}", "[]"]
