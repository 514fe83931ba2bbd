"""Filling a model while another one serves: after uploads, once, whatever is killed, and kept up from then on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from numpy.typing import NDArray
from PIL.Image import Image as PILImage

from catalog import keeping, storage
from catalog.embedding_models import make_serving, serving_model
from catalog.exceptions import CannotServe
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from search import progress, tasks
from search.indexing import rebuild_due_indexes, rebuild_index, rebuild_on_request
from search.locks import held
from search.switching import background
from search.switching.background import ask, fill_a_while, pause, subject
from search.switching.ready import ready as readiness
from tests.beside import Darkness, same_in_a_process
from tests.heads import taught_model
from tests.library import process_all, put_image, ready, run_python, squares
from visearch_site.celery import app

pytestmark = pytest.mark.django_db


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [ready(shop, squares((place, 10, 40, "red"))) for place in (10, 20, 30)]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the workers."""
    found: list[str] = []
    monkeypatch.setattr(tasks.fill, "delay", lambda: found.append("fill"))
    monkeypatch.setattr(tasks.rebuild, "delay", lambda key: found.append(f"rebuild {key}"))
    return found


def count_of(model: EmbeddingModel) -> int:
    return Embedding.objects.filter(model=model).count()


def test_it_is_filled_while_the_other_serves_and_kept_up_as_images_come(
    shop: Collection, images: list[Image], other: EmbeddingModel
) -> None:
    present = serving_model("image")
    fill_a_while()
    assert count_of(other) == 0  # nobody asked
    ask(other)
    fill_a_while()
    assert count_of(other) == 3
    assert serving_model("image") == present
    ready(shop, squares((50, 10, 40, "blue")))
    fill_a_while()
    assert count_of(other) == 4
    state = readiness(EmbeddingModel.objects.get(pk=other.pk))
    assert (state.standing.have, state.standing.total, state.in_words) == (4, 4, "kept up to date")


def test_a_head_is_filled_with_its_base(images: list[Image], other: EmbeddingModel) -> None:
    head = taught_model()
    make_serving(other)
    ask(head)
    fill_a_while()
    assert count_of(head) == 3


def test_uploads_come_first(shop: Collection, images: list[Image], other: EmbeddingModel) -> None:
    ask(other)
    waiting = put_image(shop, squares((60, 10, 40, "blue")))
    assert not fill_a_while().more  # beat asks again; a message would only turn in circles
    assert count_of(other) == 0
    said = readiness(EmbeddingModel.objects.get(pk=other.pk)).in_words
    assert said == "waiting until the images that were put in are processed, 0 of 3"
    cache.clear()
    fill_a_while()
    assert readiness(EmbeddingModel.objects.get(pk=other.pk)).in_words == said
    process_all()
    waiting.refresh_from_db()
    assert waiting.status == "ready"
    fill_a_while()
    assert count_of(other) == 4


def test_images_that_wait_for_what_a_person_has_to_mend_do_not_hold_it_up(
    shop: Collection, images: list[Image], other: EmbeddingModel
) -> None:
    """Those of a changed model wait until another one serves, which has to be filled first."""
    EmbeddingModel.objects.filter(pk=serving_model("face").pk).update(fingerprint="0" * 64)
    waiting = [put_image(shop, squares((place, 10, 40, "blue"))) for place in (50, 60)]
    process_all()
    Image.objects.filter(status="queued").update(lease_until=timezone.now() - timedelta(seconds=1))  # rested
    assert Image.objects.pending().count() == 2
    ask(other)
    fill_a_while()
    assert count_of(other) == 3
    Image.objects.filter(pk=waiting[0].pk).update(attempts=1)  # tried, and due to be tried again
    Embedding.objects.filter(model=other).delete()
    ask(other)
    fill_a_while()
    assert count_of(other) == 0


def test_an_upload_interrupts_it_after_a_batch(
    shop: Collection, images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "BATCH", 1)
    embed = Darkness.embed

    def upload_and_embed(self: Darkness, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not Image.objects.pending().exists():
            put_image(shop, squares((70, 10, 40, "blue")))
        return embed(self, crops)

    monkeypatch.setattr(Darkness, "embed", upload_and_embed)
    ask(other)
    fill_a_while()
    assert count_of(other) == 1
    said = progress.reported(subject(other))
    assert said is not None
    assert (said.step, said.done, said.total) == (background.YIELDING, 1, 3)


def test_a_slice_ends_and_the_rest_is_asked_for_once(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    monkeypatch.setattr(background, "BATCH", 1)
    monkeypatch.setattr(tasks, "fill_a_while", lambda: fill_a_while(-1))
    ask(other)
    tasks.fill()
    assert (count_of(other), sent) == (1, ["fill"])
    tasks.fill()
    tasks.fill()
    assert count_of(other) == 3
    assert sent[:3] == ["fill", "fill", "fill"]  # each task takes back that one is on its way
    sent.clear()
    tasks.fill()
    assert f"rebuild {other.pk}" in sent and "fill" not in sent


def test_what_cannot_be_read_is_tried_once_and_again_when_somebody_asks(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = images[0]
    key = storage.original_key(lost.pk, lost.format)
    with storage.open_original(key) as file:
        content = file.read()
    storage.originals().delete(key)
    ask(other)
    fill_a_while()
    opened: list[str] = []
    monkeypatch.setattr(storage, "open_original", opened.append)
    fill_a_while()
    assert opened == []
    monkeypatch.undo()
    now = keeping.standing(EmbeddingModel.objects.get(pk=other.pk))
    assert (now.have, now.lacking, now.failed, now.left) == (2, 1, 1, 0)
    with pytest.raises(CannotServe, match="1 of the regions"):
        make_serving(other)
    storage.save_original(key, io.BytesIO(content))
    ask(other)
    fill_a_while()
    assert count_of(other) == 3


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("how", ["stale", "unmounted", "no folder"])
def test_a_storage_that_is_away_is_no_images_fault(
    other: EmbeddingModel,
    how: str,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stale(key: str) -> None:
        raise OSError(116, "Stale file handle")

    ask(other)
    if how == "stale":
        monkeypatch.setattr(storage, "open_original", stale)
    else:
        (media / "originals").rename(media / "away")
    if how == "unmounted":
        (media / "originals").mkdir()
    assert fill_a_while() == background.Slice(more=False, to_index=[])  # no index of a part
    now = readiness(EmbeddingModel.objects.get(pk=other.pk))
    assert (now.standing.have, now.standing.failed, now.model.filled_to) == (0, 0, 0)
    why = "(Stale file handle)" if how == "stale" else "empty, or not there"
    assert now.in_words == "stopped, and tried again every minute" and why in now.stopped
    call_command("model", "list", "--pipeline", "image")
    assert now.stopped in capsys.readouterr().out
    with pytest.raises(CannotServe, match="cannot serve yet"):
        make_serving(other)
    monkeypatch.undo()
    if how == "unmounted":
        (media / "originals").rmdir()
    if how != "stale":
        (media / "away").rename(media / "originals")
    fill_a_while()
    now = readiness(EmbeddingModel.objects.get(pk=other.pk))
    assert (now.standing.have, now.stopped, now.in_words) == (3, "", "kept up to date")


def test_an_unexpected_error_is_seen_where_its_model_is(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path is on fire")

    ask(other)
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "batches", broken)
        fill_a_while()
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:catalog_embeddingmodel_change", args=[other.pk])
    text = root.get(page).content.decode()
    assert "stopped, and tried again every minute" in text and "the worker&#x27;s log says what" in text
    assert "/secret" not in text
    assert pause(EmbeddingModel.objects.get(pk=other.pk))
    assert "tried again every minute" not in root.get(page).content.decode()
    ask(other)
    fill_a_while()
    text = root.get(page).content.decode()
    assert "kept up to date" in text and "log says what" not in text


def test_paused_it_stays_as_it_is_until_somebody_goes_on(images: list[Image], other: EmbeddingModel) -> None:
    ask(other)
    assert pause(other) and not pause(other)
    fill_a_while()
    assert count_of(other) == 0
    assert readiness(EmbeddingModel.objects.get(pk=other.pk)).in_words == "filling is paused"
    ask(other)
    fill_a_while()
    assert count_of(other) == 3


def test_one_worker_at_a_time(images: list[Image], other: EmbeddingModel) -> None:
    ask(other)
    with held(f"visearch fill {other.pk}") as is_ours:
        assert is_ours
        assert not fill_a_while().more
    assert count_of(other) == 0


def test_a_switch_meanwhile_ends_it(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other embeddings say then which regions there are: how far it was means nothing any more."""
    monkeypatch.setattr(background, "BATCH", 1)
    third = taught_model()
    ask(other)
    batches = keeping.batches(EmbeddingModel.objects.get(pk=other.pk), 1)
    assert next(batches) == 1
    make_serving(third)
    assert list(batches) == []
    fill_a_while()
    assert count_of(other) == 3


KILLED = """
from catalog.models import EmbeddingModel
from search.switching import background
from tests.beside import Darkness
embed, calls = Darkness.embed, []
def embed_or_die(self, crops):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(self, crops)
Darkness.embed = embed_or_die
background.BATCH = 1
background.fill_a_while()
"""


@pytest.mark.django_db(transaction=True)
def test_killed_it_goes_on_where_it_was(
    images: list[Image], other: EmbeddingModel, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(other)
    environment = {"VISEARCH_MODELS_FILE": str(same_in_a_process(tmp_path))}
    done = run_python(KILLED.format(call=3), media, **environment)
    assert done.returncode == -9, done.stderr
    assert count_of(other) == 2
    computed: list[int] = []
    embed = Darkness.embed

    def embed_and_note(self: Darkness, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        computed.append(len(crops))
        return embed(self, crops)

    monkeypatch.setattr(Darkness, "embed", embed_and_note)
    fill_a_while()
    assert (count_of(other), computed) == (3, [1])


def test_one_that_cannot_run_stops_no_other(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(other)
    head = taught_model()
    ask(head)
    EmbeddingModel.objects.filter(pk=other.pk).update(fingerprint="0" * 64)
    fill_a_while()
    assert (count_of(other), count_of(head)) == (0, 3)
    with pytest.raises(CannotServe, match="are not what they were"):
        ask(EmbeddingModel.objects.get(pk=other.pk))


# --- Its index --------------------------------------------------------------------------------------------------------


def test_its_index_is_built_before_it_serves_and_not_while_it_is_filled(
    shop: Collection, images: list[Image], other: EmbeddingModel, sent: list[str]
) -> None:
    ask(other)
    rebuild_due_indexes()
    assert not other.generations.exists()
    tasks.fill()
    assert sent == [f"rebuild {other.pk}"]
    tasks.fill()
    assert sent == [f"rebuild {other.pk}"]  # asked for already
    rebuild_on_request(str(other.pk))
    assert other.generations.get(status="published").count == 3
    sent.clear()
    tasks.fill()
    assert sent == []


def test_one_that_cannot_be_built_is_not_built_every_minute(
    images: list[Image], other: EmbeddingModel, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr("search.indexing._stream", full)
    ask(other)
    for _ in range(3):
        tasks.fill()
        if sent:
            with pytest.raises(RuntimeError):
                rebuild_on_request(str(other.pk))
            sent.clear()
    failed = other.generations.get()
    assert failed.status == "failed"
    other.generations.update(created_at=timezone.now() - timedelta(minutes=31))
    tasks.fill()
    assert sent == [f"rebuild {other.pk}"]


def test_beat_keeps_the_index_of_the_way_back(
    images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serving_model("image")
    rebuild_index(first)
    make_serving(other)
    first.generations.all().delete()
    monkeypatch.setattr("search.indexing.needs_rebuild", lambda model: "it is gone" if model == first else None)
    rebuild_due_indexes()
    assert first.generations.filter(status="published").exists()


def test_one_that_nobody_keeps_gets_no_index(images: list[Image], other: EmbeddingModel, sent: Any) -> None:
    rebuild_on_request(str(other.pk))
    rebuild_due_indexes()
    assert not other.generations.exists()


def test_it_runs_where_networks_are_loaded() -> None:
    router = app.amqp.router
    assert router.route({}, tasks.fill.name)["queue"].name == "vision"
    assert router.route({}, tasks.rebuild.name)["queue"].name == "index"
