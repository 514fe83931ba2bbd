"""manage.py models fetch, and a site whose settings name a model that was never fetched."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django.fixtures import Settings

from catalog import embedding_models
from catalog.models import EmbeddingModel
from catalog.vision import registry
from catalog.vision.extract import embed_regions, extract
from catalog.vision.originals import proof
from catalog.vision.published import PUBLISHED
from catalog.vision.readers import vggface
from catalog.vision.types import Box, Detection
from tests.fakes import as_decoded, drawn_image
from tests.file_server import serving
from tests.keras_files import SMALL, random_file

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]
NAME = "vggface-vgg16"
FETCH = f"run `manage.py models fetch {NAME}`"
MODEL = "catalog.vision.embedders.vggface.VggFaceVgg16"
CONTENT, OTHER = random_file(SMALL, seed=1), random_file(SMALL, seed=2)


def models(*arguments: str) -> str:
    output = io.StringIO()
    call_command("models", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    """An empty folder of models."""
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    return tmp_path / "models"


@pytest.fixture
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fetching takes a small file for the weights, which no network can be built of."""
    check = "tests.catalog.vision.test_fetching.check_small"
    monkeypatch.setitem(PUBLISHED, NAME, replace(PUBLISHED[NAME], check=check))
    return folder


@pytest.fixture
def switched_on(fakes: None, folder: Path, settings: Settings) -> Settings:
    """The pipeline `face` has the model of these weights beside one that needs none."""
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, NAME: {"BACKEND": MODEL}}
    settings.VISEARCH_DETECTORS = {
        **settings.VISEARCH_DETECTORS,
        "mtcnn": {"BACKEND": "catalog.vision.detectors.mtcnn.Mtcnn"},
    }
    faces = {"DETECTOR": "squares", "EMBEDDERS": ["face-colours", NAME]}
    settings.VISEARCH_PIPELINES = {**settings.VISEARCH_PIPELINES, "face": faces}
    return settings


# --- The command ------------------------------------------------------------------------------------------------------


def test_fetch_shows_rights_and_sha256_and_what_to_do_next(small: Path) -> None:
    with serving(CONTENT) as server:
        said = models("fetch", NAME, "--url", server.url)
        again = models("fetch", NAME, "--url", server.url)
    assert "CC BY-NC 4.0" in said and "Not for commercial use" in said
    assert f"sha256 {hashlib.sha256(CONTENT).hexdigest()} (recorded, from now on no other is taken)" in said
    assert "is off: name it in VISEARCH_FACE_EMBEDDERS" in said
    assert "was here already" in again and "(as recorded)" in again


def test_fetch_refuses_other_bytes(small: Path) -> None:
    with serving(OTHER) as server:
        with pytest.raises(CommandError, match="which is pinned"):
            models("fetch", NAME, "--url", server.url, "--sha256", "ab" * 32)
        models("fetch", NAME, "--url", server.url)
        server.content = CONTENT
        with pytest.raises(CommandError, match="as at the first fetch"):
            models("fetch", NAME, "--url", server.url, "--force")
    assert PUBLISHED[NAME].path(small).read_bytes() == OTHER


def test_fetch_heeds_the_pin_of_the_settings(small: Path, switched_on: Settings, tmp_path: Path) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(CONTENT)
    pinned = {NAME: {"BACKEND": MODEL, "OPTIONS": {"sha256": hashlib.sha256(OTHER).hexdigest()}}}
    switched_on.VISEARCH_EMBEDDERS = {**switched_on.VISEARCH_EMBEDDERS, **pinned}
    with pytest.raises(CommandError, match="which is pinned"):
        models("fetch", NAME, "--from", str(file))
    file.write_bytes(OTHER)
    assert "(as pinned)" in models("fetch", NAME, "--from", str(file))


@pytest.mark.parametrize(
    "backend", ["catalog.vision.embedders.keras_vggface.KerasVggfaceVgg16", MODEL], ids=["original", "another name"]
)
def test_fetch_heeds_the_pin_of_any_embedder_that_reads_these_weights(
    small: Path, switched_on: Settings, tmp_path: Path, backend: str
) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(CONTENT)
    mine = {"mine": {"BACKEND": backend, "OPTIONS": {"sha256": hashlib.sha256(OTHER).hexdigest()}}}
    switched_on.VISEARCH_EMBEDDERS = {**switched_on.VISEARCH_EMBEDDERS, **mine}
    with pytest.raises(CommandError, match="which is pinned"):
        models("fetch", NAME, "--from", str(file))


def test_two_pins_of_one_file_are_refused(small: Path, switched_on: Settings) -> None:
    def pins(name: str, content: bytes) -> dict[str, object]:
        return {name: {"BACKEND": MODEL, "OPTIONS": {"sha256": hashlib.sha256(content).hexdigest()}}}

    known = switched_on.VISEARCH_EMBEDDERS
    switched_on.VISEARCH_EMBEDDERS = {**known, **pins("one", CONTENT), **pins("two", CONTENT)}
    assert not [check for check in run_checks() if check.id == "catalog.E001"]
    switched_on.VISEARCH_EMBEDDERS = {**known, **pins("one", CONTENT), **pins("two", OTHER)}
    (found,) = [check for check in run_checks() if check.id == "catalog.E001"]
    assert "one, two" in found.msg and NAME in found.msg


def test_a_bad_pin_in_the_settings_is_named(switched_on: Settings) -> None:
    bad = {NAME: {"BACKEND": MODEL, "OPTIONS": {"sha256": "ab"}}}
    switched_on.VISEARCH_EMBEDDERS = {**switched_on.VISEARCH_EMBEDDERS, **bad}
    (error,) = [each for each in run_checks() if each.id == "catalog.E001"]
    assert "sha256 must be 64 digits" in error.msg


@pytest.mark.parametrize("arguments", [("fetch",), ("build", NAME), ("verify", NAME), ("list", NAME)])
def test_only_fetch_takes_a_name_and_needs_one(folder: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="models fetch NAME"):
        models(*arguments)


def test_an_unknown_name_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(CommandError, match="no published weights 'arcface', only vggface2-resnet50, "):
        models("fetch", "arcface")


def test_the_list_tells_whose_the_published_weights_are_and_whether_they_are_here(small: Path, tmp_path: Path) -> None:
    listed = models()
    assert f"{NAME}  (published weights, off)" in listed
    assert PUBLISHED[NAME].url in listed
    assert PUBLISHED[NAME].rights in " ".join(listed.split())
    assert FETCH in listed
    file = tmp_path / "weights.h5"
    file.write_bytes(CONTENT)
    models("fetch", NAME, "--from", str(file))
    assert f"fetched, sha256 {hashlib.sha256(CONTENT).hexdigest()}" in models()


# --- Switched on and never fetched ------------------------------------------------------------------------------------


def test_a_check_says_what_to_do(switched_on: Settings) -> None:
    warnings = [each.msg for each in run_checks() if each.id == "catalog.W001"]
    assert len(warnings) == 1
    assert f"{NAME} is not built" in warnings[0] and FETCH in warnings[0]


def test_everything_else_is_built_and_registered(switched_on: Settings) -> None:
    switched_on.VISEARCH_PIPELINES = {
        "face": {"DETECTOR": "mtcnn", "EMBEDDERS": [NAME, "face-colours"]},
        "image": switched_on.VISEARCH_PIPELINES["image"],
    }
    with pytest.raises(CommandError, match=FETCH):
        models("build")
    assert set(registry.model_problems()) == {NAME}
    assert set(EmbeddingModel.objects.values_list("embedder", "state")) == {
        ("face-colours", "serving"),
        ("image-colours", "serving"),
    }


def test_no_row_is_made_for_it_whoever_registers(switched_on: Settings) -> None:
    embedding_models.register_models()
    assert not EmbeddingModel.objects.filter(embedder=NAME).exists()


def test_the_site_is_ready_while_another_model_serves(switched_on: Settings) -> None:
    embedding_models.register_models()
    response = Client().get("/readyz")
    assert (response.status_code, response.json()["problems"]["models"]) == (200, [])
    regions = extract(as_decoded(drawn_image()), ["face"]).regions
    assert regions and regions[0].vectors["face-colours"].shape == (8,)


def test_the_site_is_not_ready_when_nothing_else_serves(switched_on: Settings) -> None:
    switched_on.VISEARCH_PIPELINES = {"face": {"DETECTOR": "squares", "EMBEDDERS": [NAME]}}
    embedding_models.register_models()
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert any(NAME in problem for problem in response.json()["problems"]["models"])


def test_weights_that_were_altered_since_are_refused_by_the_build(
    small: Path, switched_on: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(CONTENT)
    models("fetch", NAME, "--from", str(file))
    PUBLISHED[NAME].path(small).write_bytes(CONTENT[:-1])
    with pytest.raises(CommandError, match=f"not the published ones.*{FETCH}"):
        models("build")
    assert not EmbeddingModel.objects.filter(embedder=NAME).exists()


@pytest.mark.models
def test_a_process_that_runs_already_finds_what_was_fetched_and_built(
    switched_on: Settings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "vgg16", lambda *_: None)  # with its original it would take longer than the rest
    assert registry.embedder(NAME).dimension == 512
    file = tmp_path / "weights.h5"
    file.write_bytes(random_file(vggface.vgg16_layers()))
    assert "Now run `manage.py models build`" in models("fetch", NAME, "--from", str(file))
    assert f"{NAME}: built" in models("build")
    assert registry.model_problems() == {}
    row = EmbeddingModel.objects.get(embedder=NAME)
    assert (row.dimension, row.state) == (512, "building")
    assert row.licence == PUBLISHED[NAME].licence and row.source == PUBLISHED[NAME].url
    face = Detection(Box(20, 30, 40, 40), 1.0)
    (region,) = embed_regions(as_decoded(drawn_image()), "face", [face], {"face": [NAME]})
    assert region.vectors[NAME].shape == (512,)
    assert np.linalg.norm(region.vectors[NAME]) > 0


# --- Settings of the environment --------------------------------------------------------------------------------------


def test_face_embedders_and_their_metric_come_from_the_environment() -> None:
    program = (
        "import django\ndjango.setup()\n"
        "from catalog.vision.registry import pipeline\nfrom search.engines.registry import configured_index\n"
        "print(pipeline('face').embedders, configured_index('face').metric.value)"
    )
    chosen = {"VISEARCH_FACE_EMBEDDERS": "vggface2-senet50,dlib-resnet", "VISEARCH_FACE_METRIC": "cosine"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "('vggface2-senet50', 'dlib-resnet') cosine"
