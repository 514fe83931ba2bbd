from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from django.core import checks
from django.test import Client

from catalog import claims
from catalog.embedding_models import make_serving, serving_model
from catalog.models import Collection, DoomedFiles, IntakeLine
from catalog.vision import registry
from search.health import health
from search.indexing import rebuild_index
from tests.doctor import grow_old
from tests.fakes import MeanColour
from tests.heads import taught_model
from tests.library import put_image, ready, squares
from tests.visearch_site.web import web_server

CHANGED = f"{__name__}.Changed"
NOWHERE = "postgres://nobody:secret@/nothing?host=/nonexistent"


class Changed(MeanColour):
    """Code of another version."""

    CARD = replace(MeanColour.CARD, version="2")


def readiness() -> tuple[int, dict[str, Any]]:
    response = Client().get("/readyz")
    return response.status_code, response.json()


def test_alive_is_said_without_asking_anything(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ready_without_any_index(shop: object) -> None:
    assert readiness() == (
        200,
        {"status": "ok", "problems": {"database": [], "redis": [], "models": []}, "warnings": []},
    )


def test_a_pipeline_that_nothing_serves_is_named(db: None, fakes: None) -> None:
    status, body = readiness()
    assert (status, body["status"]) == (503, "unavailable")
    assert len(body["problems"]["models"]) == 2
    assert all("manage.py models build" in problem for problem in body["problems"]["models"])


def test_missing_models_are_named_without_naming_folders(db: None, settings: Any, tmp_path: Path) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path / "nothing here"
    status, body = readiness()
    assert status == 503
    assert any("dlib-resnet" in problem for problem in body["problems"]["models"])
    assert str(tmp_path) not in str(body)


def test_wrong_settings_of_models_are_named(shop: object, settings: Any) -> None:
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "image-colours": {"BACKEND": 5}}
    status, body = readiness()
    assert status == 503
    (problem,) = body["problems"]["models"]
    assert "VISEARCH_EMBEDDERS['image-colours']: BACKEND is a dotted path" in problem


@pytest.mark.parametrize("suffixes", [(".onnx",), (".json",), (".onnx", ".json")])
def test_a_serving_model_that_lost_its_head_is_named_without_naming_folders(
    shop: object, suffixes: tuple[str, ...]
) -> None:
    model = taught_model()
    make_serving(model)
    assert readiness()[0] == 200
    for suffix in suffixes:
        (registry.models_dir() / "heads" / f"{model.embedder}{suffix}").unlink()
    status, body = readiness()
    assert status == 503
    assert body["problems"]["models"] == [
        f"The taught model {model.embedder} cannot be used. `manage.py models` says why; see docs/teaching.md."
    ]


def test_a_serving_model_whose_entry_was_changed_is_named(shop: object, settings: Any) -> None:
    """It computes nothing any more, though all files are whole: readiness, search health and the check say so."""
    assert readiness()[0] == 200
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "image-colours": {"BACKEND": CHANGED}}
    status, body = readiness()
    assert status == 503
    (problem,) = body["problems"]["models"]
    assert "image-colours is no longer the model that serves 'image'" in problem
    assert {state.pipeline: state.trouble for state in health()} == {"face": "", "image": problem}
    said = [check for check in checks.run_checks(databases=["default"]) if check.id == "catalog.W003"]
    assert [check.msg for check in said] == [problem]
    settings.VISEARCH_PIPELINES = {"face": settings.VISEARCH_PIPELINES["face"]}  # nothing asks for it any more
    assert readiness()[0] == 200


def test_what_wants_looking_after_takes_no_site_out_of_service(
    shop: Collection, media: Path, django_assert_max_num_queries: Any
) -> None:
    """Whoever asks without a name reads neither keys nor paths of it."""
    image = ready(shop, squares((20, 30, 40, "red")))
    rebuild_index(serving_model("face"))
    assert readiness()[1]["warnings"] == []
    put_image(shop, squares((20, 30, 40, "blue")))
    claims.claim(None, 1)
    IntakeLine.objects.update(verdict="receiving", image=None)
    DoomedFiles.objects.create(image_id=image.pk, format="PNG")
    grow_old()
    shutil.rmtree(settings.VISEARCH_INDEXES_DIR)
    with django_assert_max_num_queries(20):
        status, body = readiness()
    assert (status, body["status"]) == (200, "ok")
    assert [said.partition(":")[0].partition(" needs")[0] for said in body["warnings"]] == [
        "Images wait for a worker, and none takes them",
        "Uploads that were interrupted are not cleaned up",
        "Files of deleted images are still there",
        "The index of face",
    ]
    assert all("manage.py doctor" in said for said in body["warnings"])
    assert str(image.pk) not in str(body)
    assert str(settings.VISEARCH_INDEXES_DIR) not in str(body)


def test_probes_are_not_redirected_to_https(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get("/healthz").status_code == 200


@pytest.mark.parametrize("method", ["post", "delete"])
def test_health_is_only_read(method: str) -> None:
    assert getattr(Client(), method)("/healthz").status_code == 405


def test_without_redis_the_site_answers_and_says_so(tmp_path: Path, transactional_db: None) -> None:
    with web_server(
        tmp_path, REDIS_URL=f"unix://{tmp_path}/nobody.sock?db=0", VISEARCH_THROTTLE_ANON="1/min"
    ) as server:
        assert requests.get(f"{server.url}/healthz", timeout=30).json() == {"status": "ok"}
        ready = requests.get(f"{server.url}/readyz", timeout=30)
        assert ready.status_code == 503
        assert ready.json()["problems"]["redis"] == [
            "Redis does not answer. Start it, or correct REDIS_URL; the log has its words."
        ]
        # throttles let pass: what counts them is away
        answers = [requests.post(f"{server.url}/api/v1/search/", json={}, timeout=30) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 400]


def test_without_the_database_everything_says_so(tmp_path: Path) -> None:
    with web_server(tmp_path, DATABASE_URL=NOWHERE) as server:
        assert requests.get(f"{server.url}/healthz", timeout=30).json() == {"status": "ok"}
        ready = requests.get(f"{server.url}/readyz", timeout=30)
        assert ready.status_code == 503
        (problem,) = ready.json()["problems"]["database"]
        assert "DATABASE_URL" in problem
        assert "secret" not in ready.text
        assert "nonexistent" not in ready.text
        for path in ("collections/", "images/", "people/"):
            answer = requests.get(f"{server.url}/api/v1/{path}", timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
            assert answer.headers["Retry-After"] == "5"
            assert "Traceback" not in answer.text
        assert "Traceback" in server.log("web")  # the operator gets what the client does not
