"""A switch that was asked for in the admin and is carried out later, twice, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from kombu import Connection

from catalog.embedding_models import make_serving, serving_model, what_is_seen
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from search import tasks
from search.admin import models as models_admin
from search.switching import requests
from search.switching.background import fill_a_while
from search.teaching.requests import Report, reported
from tests.catalog.admin.staff import told
from tests.heads import taught_model
from tests.library import ready, squares

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of the workers."""
    found: list[tuple[Any, ...]] = []
    for name in ("fill", "rebuild", "serve"):
        monkeypatch.setattr(getattr(tasks, name), "delay", lambda *args, name=name: found.append((name, *args)))
    monkeypatch.setattr(tasks, "rebuild_on_request", lambda key: found.append(("rebuild", key)))
    return found


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [ready(shop, squares((place, 10, 40, "red"))) for place in (10, 20, 30)]


@pytest.fixture
def root(shop: Collection) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def let_serve(client: Client, model: EmbeddingModel) -> Any:
    form = {"instead_of": str(serving_model(model.pipeline).pk)}
    return client.post(reverse("admin:search_serve", args=[model.pk]), form, follow=True)


def count_of(model: EmbeddingModel) -> int:
    return Embedding.objects.filter(model=model).count()


# --- Late and twice ---------------------------------------------------------------------------------------------------


def refusal() -> str:
    said = reported("image")
    assert said is not None and said.went_wrong
    return said.said


def test_the_same_message_again_does_not_undo_the_way_back(images: list[Image], other: EmbeddingModel) -> None:
    first, message = serving_model("image"), (str(other.pk), None, what_is_seen(other))
    tasks.serve(*message)
    assert serving_model("image") == other
    call_command("model", "back", "--pipeline", "image")
    tasks.serve(*message)
    assert serving_model("image") == first
    assert "it served, and somebody went back" in refusal()
    tasks.serve(str(other.pk), None, what_is_seen(other))  # whoever asks once more
    assert serving_model("image") == other


def test_one_that_was_asked_for_instead_of_another_is_not_taken_for_the_present_one(
    images: list[Image], other: EmbeddingModel
) -> None:
    third, seen = taught_model(), what_is_seen(other)
    make_serving(third)
    tasks.serve(str(other.pk), None, seen)
    assert serving_model("image") == third
    assert count_of(other) == 0  # nothing was computed for it
    assert "another model began to serve image" in refusal()


def test_nor_where_that_changes_while_its_embeddings_are_computed(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    third, prepare = taught_model(), requests.prepare

    def prepare_and_switch(row: EmbeddingModel, *told: Any) -> None:
        prepare(row, *told)
        make_serving(third)

    monkeypatch.setattr(requests, "prepare", prepare_and_switch)
    tasks.serve(str(other.pk), None, what_is_seen(other))
    assert serving_model("image") == third


def test_one_whose_worker_died_after_the_switch_gets_its_index(
    images: list[Image], other: EmbeddingModel, sent: list[Any]
) -> None:
    message = (str(other.pk), None, what_is_seen(other))
    tasks.serve(*message)
    sent.clear()
    tasks.serve(*message)
    assert serving_model("image") == other and sent == [("rebuild", str(other.pk))]
    assert reported("image") == Report(said=f"{other} serves now.", model=str(other.pk))


def test_the_message_expires_before_redis_delivers_it_again(settings: Any) -> None:
    with Connection("memory://") as connection:
        tasks.serve.apply_async(("key", None, "seen"), connection=connection)
        expires = datetime.fromisoformat(connection.SimpleQueue("index").get(timeout=5).headers["expires"])
    visible = timedelta(seconds=settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"])
    assert timedelta(minutes=30) < expires - datetime.now(UTC) <= visible


# --- Much that is lacking ---------------------------------------------------------------------------------------------


def test_much_is_computed_after_uploads_and_not_for_the_switch(
    root: Client, images: list[Image], other: EmbeddingModel, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "IN_ONE_GO", 2)
    monkeypatch.setattr(models_admin, "AT_ONCE_FROM_IMAGES", 0)
    first = serving_model("image")
    assert "That is too much for a switch" in root.get(reverse("admin:search_serve", args=[other.pk])).content.decode()
    assert "3 embeddings have to be computed from images" in told(let_serve(root, other))
    assert sent == [("fill",)]
    assert (serving_model("image"), count_of(other)) == (first, 0)
    tasks.serve(str(other.pk), None, what_is_seen(other))  # one that was sent before, or is
    assert (serving_model("image"), count_of(other)) == (first, 0)
    assert "Let it serve when they are done" in refusal()
    fill_a_while()
    assert count_of(other) == 3
    assert "serves image now" in told(let_serve(root, other))
    assert serving_model("image") == other


@pytest.mark.usefixtures("images")
def test_a_head_whose_base_lacks_images_is_not_waited_for(
    root: Client, shop: Collection, other: EmbeddingModel, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_admin, "AT_ONCE_FROM_IMAGES", 1)
    head = taught_model()
    make_serving(other)
    for place in (40, 50):
        ready(shop, squares((place, 10, 40, "blue")))
    let_serve(root, head)
    assert serving_model("image") == other
    assert [each[:2] for each in sent] == [("serve", str(head.pk))]
    tasks.serve(*sent[0][1:])  # as the worker does
    assert serving_model("image") == head
