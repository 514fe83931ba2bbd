"""What the doctor says of indexes: the pointer, the record, the files, the vectors."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from catalog.doctor.examining import Outcome, Unseen, examine
from catalog.doctor.findings import Looking
from catalog.embedding_models import serving_model
from catalog.models import Collection, Embedding, EmbeddingModel, Region
from search.doctor import folders, indexes, nobody
from search.engines.generations import Generations
from search.engines.registry import index_for
from search.indexing import rebuild_index
from search.locks import builder_lock
from search.models import IndexGeneration
from tests.doctor import asked, codes, mended, subjects
from tests.library import InThread, ready, squares
from tests.search.index_files import alter, flip_last_bit

pytestmark = pytest.mark.django_db
CHECKS = (*indexes.CHECKS, *folders.CHECKS, *nobody.CHECKS)
Status = IndexGeneration.Status
COLOURS = ("red", "blue", "lime")


@pytest.fixture
def stocked(shop: Collection) -> Collection:
    for number, colour in enumerate(COLOURS):
        ready(shop, squares((20 + number, 30, 40, colour)))
    return shop


@pytest.fixture
def model(stocked: Collection) -> EmbeddingModel:
    """The serving model of faces, with an index; the other one has none."""
    model = serving_model("face")
    rebuild_index(model)
    return model


def root_of(model: EmbeddingModel) -> Path:
    return index_for(model.pipeline, model.fingerprint, model.dimension)[1].root


def published(model: EmbeddingModel) -> Path:
    generations = Generations(root_of(model))
    return generations.folder(generations.published().name)


def record_of(model: EmbeddingModel) -> IndexGeneration:
    return model.generations.get(status=Status.PUBLISHED)


@pytest.mark.parametrize("deep", [False, True])
def test_healthy_indexes_have_no_findings(stocked: Collection, deep: bool) -> None:
    assert asked(CHECKS, deep=deep) == []  # before anything was built
    model = serving_model("face")
    for _ in range(3):
        rebuild_index(model)
    Region.objects.filter(pipeline="face").first().delete()  # type: ignore[union-attr]  # one is gone since
    ready(stocked, squares((60, 30, 40, "yellow")))  # and one is new
    assert asked(CHECKS, deep=deep, fix=True) == []


# --- Pointer and record -----------------------------------------------------------------------------------------------


def test_an_index_that_is_gone_from_the_disk(model: EmbeddingModel) -> None:
    shutil.rmtree(root_of(model))
    (found,) = asked(CHECKS, fix=True)
    assert (found.finding.code, found.mended) == ("index-gone", False)
    assert "rebuild_index" in found.finding.remedy
    rebuild_index(model)
    assert asked(CHECKS) == []


def test_of_a_model_that_does_not_serve_nothing_is_published_then(model: EmbeddingModel) -> None:
    EmbeddingModel.objects.filter(pk=model.pk).update(state="retired")
    shutil.rmtree(root_of(model))
    assert mended(CHECKS) == ["index-gone"]
    assert not model.generations.filter(status=Status.PUBLISHED).exists()


def test_a_publication_that_nobody_recorded(model: EmbeddingModel) -> None:
    first = record_of(model)
    second = rebuild_index(model)
    IndexGeneration.objects.filter(pk=second.pk).update(status=Status.SUPERSEDED)
    IndexGeneration.objects.filter(pk=first.pk).update(status=Status.PUBLISHED)
    assert codes(asked(CHECKS)) == ["index-unrecorded"]
    assert mended(CHECKS) == ["index-unrecorded"]
    assert record_of(model) == second


def test_a_generation_without_any_record_is_left(model: EmbeddingModel) -> None:
    model.generations.all().delete()
    for _ in range(2):
        (found,) = asked(CHECKS, fix=True)
        assert (found.finding.code, found.mended) == ("index-unrecorded", False)
    rebuild_index(model)
    assert asked(CHECKS) == []


def test_a_builder_that_died(model: EmbeddingModel) -> None:
    row = IndexGeneration.objects.create(embedding_model=model, name="00000009-aaaaaaaa", engine="exact")
    assert codes(asked(CHECKS)) == ["build-dead"]
    assert mended(CHECKS) == ["build-dead"]
    row.refresh_from_db()
    assert (row.status, row.reason) == (Status.FAILED, "Its builder died.")


def test_a_builder_that_died_after_publishing(model: EmbeddingModel) -> None:
    row = record_of(model)
    IndexGeneration.objects.filter(pk=row.pk).update(status=Status.BUILDING)
    assert set(mended(CHECKS)) == {"build-dead"}
    assert record_of(model) == row


@pytest.mark.django_db(transaction=True)
def test_a_build_under_way_is_left_alone(model: EmbeddingModel) -> None:
    generations = Generations(root_of(model))
    row = IndexGeneration.objects.create(embedding_model=model, name="00000009-aaaaaaaa", engine="exact")
    with builder_lock(model):
        draft = generations.begin()
        (draft.folder / "ids.npy").write_bytes(b"half")
        assert InThread(lambda: asked(CHECKS, fix=True)).outcome() == []
        assert draft.folder.is_dir()
    draft.close()
    row.refresh_from_db()
    assert row.status == Status.BUILDING
    assert sorted(mended(CHECKS)) == ["build-dead", "index-leftover"]
    assert not draft.folder.exists()


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vectors.npy", "ids.npy", "manifest.json"])
def test_a_file_that_is_missing(model: EmbeddingModel, name: str) -> None:
    (published(model) / name).unlink()
    (found,) = asked(CHECKS, fix=True)
    assert (found.finding.code, found.mended) == ("index-damaged", False)
    rebuild_index(model)
    assert "index-damaged" not in codes(asked(CHECKS, deep=True))


def test_a_file_that_was_altered_is_found_by_a_deep_look(model: EmbeddingModel) -> None:
    flip_last_bit(published(model) / "vectors.npy")
    assert asked(CHECKS) == []
    assert codes(asked(CHECKS, deep=True, fix=True)) == ["index-damaged"]


def test_a_pointer_that_says_nothing(model: EmbeddingModel) -> None:
    (root_of(model) / "current").write_text("nonsense")
    assert codes(asked(CHECKS, fix=True)) == ["index-damaged"]


def test_the_generation_before_should_be_whole_too(model: EmbeddingModel) -> None:
    before = published(model)
    rebuild_index(model)
    alter(before / "vectors.npy", b"")
    assert codes(asked(CHECKS, deep=True)) == ["generation-damaged"]
    alter(before / "manifest.json", b"{}")
    assert codes(asked(CHECKS)) == ["generation-damaged"]
    rebuild_index(model)
    assert asked(CHECKS, deep=True) == []


# --- Vectors ----------------------------------------------------------------------------------------------------------


def test_a_database_that_was_put_back_behind_its_index(model: EmbeddingModel) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence('catalog_embedding', 'id'), 1)")
    (found,) = asked(CHECKS, fix=True)
    assert (found.finding.code, found.mended) == ("index-ahead", False)
    assert "older dump" in found.finding.problem.what


def test_an_embedding_that_the_index_should_hold(model: EmbeddingModel) -> None:
    row = Embedding.objects.filter(model=model).order_by("id").last()
    other = Embedding.objects.exclude(model=model).order_by("id").first()  # its id is below the index's highest
    assert row is not None
    assert other is not None
    Embedding.objects.filter(pk=other.pk).delete()
    again = Region.objects.create(image=row.region.image, pipeline="face", x=0, y=0, width=5, height=5)
    Embedding.objects.create(id=other.pk, region=again, model=model, dimension=row.dimension, vector=bytes(row.vector))
    assert codes(asked(CHECKS)) == ["index-differs"]
    Embedding.objects.filter(pk=row.pk).delete()  # as many again, but others
    assert asked(CHECKS) == []
    (found,) = asked(CHECKS, deep=True)
    assert found.finding.what.startswith("of 3 embeddings 1 are not in")


def test_a_vector_that_is_another_one_in_the_index(model: EmbeddingModel) -> None:
    row = Embedding.objects.filter(model=model).first()
    assert row is not None
    Embedding.objects.filter(pk=row.pk).update(vector=bytes(row.vector)[4:] + bytes(row.vector)[:4])
    assert asked(CHECKS) == []
    (found,) = asked(CHECKS, deep=True)
    assert (found.finding.code, found.finding.what.split(" and ")[1]) == ("index-differs", "1 are others in it")


# --- Folders that nobody needs ----------------------------------------------------------------------------------------


def test_drafts_of_the_dead_and_old_generations_go(model: EmbeddingModel) -> None:
    root = root_of(model)
    for name in ("building-00000099-aaaaaaaa", "00000000-bbbbbbbb", "00000001-cccccccc"):
        (root / name).mkdir(exist_ok=True)
    rebuild_index(model)
    (root / "building-00000099-aaaaaaaa").mkdir()
    (root / "00000001-cccccccc").mkdir(exist_ok=True)
    kept = {published(model).name, *(path.name for path in root.iterdir() if path.name.startswith("current"))}
    left = subjects(asked(CHECKS), "index-leftover")
    assert {Path(path).name for path in left} == {"building-00000099-aaaaaaaa", "00000001-cccccccc"}
    assert mended(CHECKS) == ["index-leftover"] * 2
    assert kept <= {path.name for path in root.iterdir()}
    assert asked(CHECKS, deep=True) == []


@pytest.fixture
def orphan(model: EmbeddingModel, settings: Settings) -> Iterator[Path]:
    """The index of a model that is gone, and a folder that is none."""
    folder = Path(settings.VISEARCH_INDEXES_DIR) / "face-0123456789ab"
    shutil.copytree(root_of(model), folder)
    other = folder.parent / "notes"
    other.mkdir()
    yield folder
    assert other.is_dir()
    assert asked(CHECKS, deep=True) == []


def test_the_index_of_a_model_that_is_gone_goes(orphan: Path, model: EmbeddingModel) -> None:
    assert subjects(asked(CHECKS), "index-of-nobody") == [str(orphan)]
    assert mended(CHECKS) == ["index-of-nobody"]
    assert not orphan.exists()
    assert published(model).is_dir()


def test_it_stays_while_somebody_builds_in_it(orphan: Path) -> None:
    draft = orphan / "building-00000007-dddddddd"
    draft.mkdir()
    handle = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (found,) = asked(CHECKS, fix=True)
        assert (found.finding.code, found.mended) == ("index-of-nobody", False)
    finally:
        os.close(handle)
    assert mended(CHECKS) == ["index-of-nobody"]


@pytest.fixture
def shelf(model: EmbeddingModel, settings: Settings, tmp_path: Path) -> Path:
    """The storage that hosts hand indexes on by, with the serving model's and that of one that is gone."""
    folder = tmp_path / "far"
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {**settings.STORAGES, "indexes": {"BACKEND": backend, "OPTIONS": {"location": str(folder)}}}
    rebuild_index(model)
    shutil.copytree(folder / root_of(model).name, folder / "face-0123456789ab")
    return folder


def test_it_goes_from_the_storage_that_other_hosts_fetch_from(shelf: Path, model: EmbeddingModel) -> None:
    assert subjects(asked(CHECKS), "index-of-nobody") == ["face-0123456789ab in the storage of indexes"]
    assert mended(CHECKS) == ["index-of-nobody"]
    assert [path.name for path in shelf.iterdir()] == [root_of(model).name]
    assert asked(CHECKS, deep=True) == []


def test_what_was_interrupted_half_way_goes_too(shelf: Path, model: EmbeddingModel) -> None:
    """The pointers go first: then nothing is published there, and files are left."""
    for path in (shelf / "face-0123456789ab" / "published").iterdir():
        path.unlink()
    assert mended(CHECKS) == ["index-of-nobody"]
    assert not (shelf / "face-0123456789ab").exists()


def test_a_storage_that_is_away_is_named_and_the_rest_looked_at(shelf: Path, orphan: Path, settings: Settings) -> None:
    storages = settings.STORAGES
    settings.STORAGES = {**storages, "indexes": {"BACKEND": "tests.fakes.StorageAway"}}
    outcomes = list(examine(nobody.CHECKS, Looking(), fix=True))
    assert [each.finding.subject for each in outcomes if isinstance(each, Outcome)] == [str(orphan)]
    assert [each.why for each in outcomes if isinstance(each, Unseen)] == ["the storage of indexes: no route to it"]
    assert not orphan.exists()
    settings.STORAGES = storages
    assert mended(CHECKS) == ["index-of-nobody"]


def test_a_deep_look_names_an_engine_whose_vectors_it_cannot_compare(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "FolderEngine", indexes.ServerEngine)  # as if it were neither of the two
    outcomes = list(examine(indexes.CHECKS, Looking(deep=True)))
    assert [each.why for each in outcomes if isinstance(each, Unseen)] == [
        f"face: {model}: exact does not give its vectors back, so they are not compared."
    ]
