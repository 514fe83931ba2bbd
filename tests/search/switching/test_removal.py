"""Dropping a model that is refused, interrupted or killed half way: nobody goes back to what is left of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import CommandError, call_command

from catalog.embedding_models import make_serving, previous_model, serving_model
from catalog.exceptions import CannotServe
from catalog.models import Collection, Embedding, EmbeddingModel, Image
from search import tasks
from search.indexing import rebuild_index
from search.locks import builder_lock
from search.querying import SearchOptions, search_by_image
from search.switching import removal
from search.switching.removal import CannotRemove, drop, drop_on_request
from search.teaching.requests import reported
from tests.beside import same_in_a_process
from tests.heads import taught_model
from tests.library import ready, run_python, squares

pytestmark = pytest.mark.django_db


@pytest.fixture
def images(shop: Collection) -> list[Image]:
    return [ready(shop, squares((place, 10, 40, "red"))) for place in (10, 20, 30)]


@pytest.fixture
def way_back(images: list[Image], other: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> EmbeddingModel:
    for task in (tasks.fill, tasks.rebuild):
        monkeypatch.setattr(task, "delay", lambda *_: None)
    make_serving(other)
    row = previous_model("image")
    assert row is not None
    return row


def count_of(model: EmbeddingModel) -> int:
    return Embedding.objects.filter(model=model).count()


def found() -> int:
    options = SearchOptions(viewer=AnonymousUser(), pipeline="image")
    return len(search_by_image(io.BytesIO(squares((12, 10, 40, "red"))), "query", options).results)


def test_while_an_index_of_it_is_built_nothing_is_deleted(way_back: EmbeddingModel) -> None:
    with builder_lock(way_back), pytest.raises(CannotRemove, match="Nothing was deleted: somebody builds the index"):
        drop(way_back, None, force=True)
    assert count_of(way_back) == 3
    assert previous_model("image") == way_back
    call_command("model", "back", "--pipeline", "image", "--now")
    assert found() == 3


def test_nor_of_its_base_while_an_index_of_a_head_is_built(images: list[Image], way_back: EmbeddingModel) -> None:
    head = EmbeddingModel.objects.get(pk=taught_on(way_back).pk)
    with builder_lock(head), pytest.raises(CannotRemove, match=f"somebody builds the index of {head}"):
        drop(way_back, None, force=True)
    assert count_of(way_back) == 3 and EmbeddingModel.objects.filter(pk=head.pk).exists()


def taught_on(base: EmbeddingModel) -> EmbeddingModel:
    """A head on a model that does not serve."""
    present = serving_model(base.pipeline)
    make_serving(base)
    head = taught_model()
    make_serving(present)
    return head


def test_nobody_builds_its_index_while_it_is_dropped(way_back: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuild_index(way_back)
    tried: list[str] = []

    def build(*_: int) -> None:
        with pytest.raises(Exception, match="is being built by another process"):
            rebuild_index(way_back)
        tried.append("refused")

    drop(way_back, None, force=True, told=build)
    assert tried == ["refused"]


KILLED = """
from catalog.models import EmbeddingModel
from search.switching import removal
removal.BATCH = 1
def die(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
removal.drop(EmbeddingModel.objects.get(embedder="image-colours"), None, force=True, told=die)
"""


@pytest.mark.django_db(transaction=True)
def test_killed_half_way_it_is_no_way_back_and_is_dropped_by_the_same_again(
    way_back: EmbeddingModel, media: Path, tmp_path: Path
) -> None:
    rebuild_index(way_back)
    done = run_python(KILLED, media, VISEARCH_MODELS_FILE=str(same_in_a_process(tmp_path)))
    assert done.returncode == -9, done.stderr
    assert count_of(way_back) == 1
    with pytest.raises(CommandError, match="No other model has served this pipeline yet"):
        call_command("model", "back", "--pipeline", "image", "--now")
    with pytest.raises(CannotServe, match=r"has 1 embeddings and .*, which serves, 3: most of what is found now"):
        make_serving(way_back, at_once=True)
    assert found() == 3
    call_command("model", "drop", "image-colours", "--yes")  # it is no way back any more: without --force
    assert not EmbeddingModel.objects.filter(pk=way_back.pk).exists()
    assert found() == 3


def test_whoever_goes_back_at_once_while_it_is_dropped_is_refused(
    way_back: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has most of what is found, still."""
    monkeypatch.setattr(removal, "BATCH", 1)
    refused: list[int] = []

    def go_back(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(CannotServe, match="no way back of image"):
                make_serving(way_back, at_once=True)
            refused.append(count_of(way_back))

    drop(way_back, None, force=True, told=go_back)
    assert refused == [2]


def test_a_refusal_says_what_to_do(way_back: EmbeddingModel) -> None:
    with pytest.raises(CommandError, match=r"It is the way back of image.*To drop it all the same say --force"):
        call_command("model", "drop", "image-colours", "--yes")
    drop_on_request(str(way_back.pk), None, force=False)
    said = reported("image")
    assert said is not None and said.went_wrong and "--force, or tick that in the admin" in said.said
    assert count_of(way_back) == 3
