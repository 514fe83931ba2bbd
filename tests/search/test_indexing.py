"""From rows in the database to a published generation, and when that is due."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import numpy as np
import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from django_redis import get_redis_connection
from numpy.typing import NDArray
from pytest_django import Settings

from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from search import serving
from search.doctor import quick
from search.engines import manifest, trust
from search.engines.errors import BuildFailed, IndexNotBuilt, InvalidVector
from search.engines.folder_engine import FolderEngine
from search.engines.npyfile import NpyWriter
from search.engines.registry import index_for
from search.engines.types import EVERYWHERE, Scope
from search.health import index_trouble, last_builds
from search.indexing import needs_rebuild, rebuild_due_indexes, rebuild_index
from search.locks import RebuildRunning, builder_lock, is_building
from search.models import IndexGeneration
from search.pace import pace_of
from search.progress import BuildProgress, Reporter, reported
from tests.search.index_files import flip_last_bit

DIMENSION = 16
Status = IndexGeneration.Status


def vectors_of(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype("<f4")


def store(model: EmbeddingModel, vectors: NDArray[np.float32], name: str = "shop") -> list[Embedding]:
    """One image with one region for each vector, as processing leaves them."""
    collection, _ = Collection.objects.get_or_create(name=name)
    images = Image.objects.bulk_create(
        Image(
            collection=collection, sha256=uuid4().hex * 2, format="JPEG", width=8, height=8, byte_size=1, status="ready"
        )
        for _ in vectors
    )
    regions = Region.objects.bulk_create(
        Region(image=image, pipeline=model.pipeline, x=0, y=0, width=8, height=8) for image in images
    )
    return Embedding.objects.bulk_create(
        Embedding(region=region, model=model, dimension=DIMENSION, vector=vector.tobytes())
        for region, vector in zip(regions, vectors, strict=True)
    )


@pytest.fixture(autouse=True)
def own_settings(settings: Settings, tmp_path: Path) -> None:
    settings.VISEARCH_INDEXES_DIR = tmp_path / "indexes"
    settings.VISEARCH_REBUILD_ROWS, settings.VISEARCH_REBUILD_SHARE = 10, 0.05


@pytest.fixture
def model(db: None) -> EmbeddingModel:
    EmbeddingModel.objects.all().delete()
    return EmbeddingModel.objects.create(
        pipeline="image", embedder="tiny", fingerprint="ab" * 32, dimension=DIMENSION, state="serving"
    )


def opened(model: EmbeddingModel) -> Any:
    engine, spec = index_for(model.pipeline, model.fingerprint, model.dimension)
    return engine.open(spec)


def drafts(settings: Settings) -> list[Path]:
    return list(Path(settings.VISEARCH_INDEXES_DIR).glob("*/building-*"))


# --- building ---


def test_a_generation_answers_for_what_is_stored(model: EmbeddingModel) -> None:
    vectors = vectors_of(120)
    rows = store(model, vectors)
    generation = rebuild_index(model)
    reader = opened(model)
    assert reader.generation == generation.name
    assert reader.search(vectors[33], 1).ids.tolist() == [rows[33].pk]
    assert (generation.status, generation.count, generation.engine) == (Status.PUBLISHED, 120, "nmslib_hnsw")
    assert generation.highest_embedding_id == reader.highest_id == rows[-1].pk
    assert generation.recall is not None
    assert generation.recall >= 0.98
    assert generation.parameters["metric"] == "cosine"
    assert generation.parameters["measured"]["ef_search"] >= 16
    assert "nmslib" in generation.parameters["libraries"]


def test_collections_go_into_the_index(model: EmbeddingModel) -> None:
    store(model, vectors_of(60), "shop")
    other = store(model, vectors_of(20, seed=1), "museum")
    rebuild_index(model)
    key = Collection.objects.get(name="museum").index_key
    hits = opened(model).search(vectors_of(1, seed=2)[0], 50, Scope(collections=np.array([key])))
    assert set(hits.ids.tolist()) == {row.pk for row in other}


def test_vectors_of_another_model_stay_out(model: EmbeddingModel) -> None:
    other = EmbeddingModel.objects.create(
        pipeline="image", embedder="other", fingerprint="cd" * 32, dimension=DIMENSION, state="building"
    )
    store(model, vectors_of(15))
    store(other, vectors_of(25, seed=1))
    assert rebuild_index(model).count == 15
    assert rebuild_index(other).count == 25


def test_a_model_without_vectors_gets_an_empty_generation(model: EmbeddingModel) -> None:
    assert rebuild_index(model).count == 0
    assert len(opened(model).search(vectors_of(1)[0], 5)) == 0


def test_the_generation_before_is_superseded(model: EmbeddingModel) -> None:
    store(model, vectors_of(15))
    first, second = rebuild_index(model), rebuild_index(model)
    first.refresh_from_db()
    assert (first.status, second.status) == (Status.SUPERSEDED, Status.PUBLISHED)
    assert opened(model).generation == second.name


def test_progress_is_told(model: EmbeddingModel) -> None:
    store(model, vectors_of(15))
    told: list[tuple[str, int, int]] = []
    row = rebuild_index(model, progress=lambda *step: told.append(step))
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps[0] == "reading"
    assert steps[-3:] == ["tuning", "checking", "publishing"]
    assert told[:2] == [("reading", 0, 15), ("reading", 15, 15)]
    assert told[-1] == ("publishing", 1, 1)
    assert all(0 <= done <= total for _, done, total in told)
    assert row.parameters["step_seconds"].keys() == set(steps)


def built_by(settings: Settings, name: str) -> None:
    """The engine of this name among those of tests.search.engines.lying."""
    settings.VISEARCH_ENGINES = {"mine": {"BACKEND": f"tests.search.engines.lying.{name}"}}
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "image": {"ENGINE": "mine", "METRIC": "l2"}}


def test_a_build_that_fails_its_self_test_is_recorded_with_its_reason(
    model: EmbeddingModel, settings: Settings
) -> None:
    store(model, vectors_of(15))
    built_by(settings, "DoesNotFindItself")
    with pytest.raises(BuildFailed):
        rebuild_index(model)
    failed = IndexGeneration.objects.get()
    assert failed.status == Status.FAILED
    assert "does not find itself first" in failed.reason
    assert drafts(settings) == []
    with pytest.raises(IndexNotBuilt):
        opened(model)


def test_redis_is_flushed_during_a_build(model: EmbeddingModel) -> None:
    """What is said of a build is lost for a moment; the build, and that there is one, are not."""
    store(model, vectors_of(15))
    reporter, seen = Reporter(model), []

    def watched(step: str, done: int, total: int) -> None:
        reporter(step, done, total)
        if step == "checking" and done == 0:
            get_redis_connection("default").flushall()
            seen.append((is_building(model), reported(model)))

    row = rebuild_index(model, watched)
    assert set(seen) == {(True, None)}
    assert reported(model) == BuildProgress("publishing", 1, 1)
    assert (row.status, opened(model).generation) == (Status.PUBLISHED, row.name)


def test_how_long_it_still_takes(model: EmbeddingModel) -> None:
    """From the steps of the build before, in proportion to what there is to build now."""
    store(model, vectors_of(20))
    assert pace_of(model).left() == ""
    row = rebuild_index(model)
    row.parameters["step_seconds"] = {"reading": 10, "adding": 20, "building": 600, "checking": 30}
    row.save()
    store(model, vectors_of(20, seed=1))
    pace = pace_of(model)
    pace("reading", 0, 40)
    assert pace.left() == "about 22 min left"
    pace("building", 0, 40)
    assert pace.left() == "about 22 min left"  # adding, which was not seen, may still come
    pace("adding", 40, 40)
    pace("checking", 0, 40)
    assert pace.left() == "about 60 s left"


def test_a_build_that_fails_is_recorded_and_changes_nothing(model: EmbeddingModel, settings: Settings) -> None:
    store(model, vectors_of(15))
    served = rebuild_index(model)
    bad = store(model, np.zeros((1, DIMENSION), dtype="<f4"))[0]
    with pytest.raises(InvalidVector, match=str(bad.pk)):
        rebuild_index(model)
    failed = IndexGeneration.objects.get(status=Status.FAILED)
    assert str(bad.pk) in failed.reason
    assert opened(model).generation == served.name
    assert drafts(settings) == []
    bad.delete()
    assert rebuild_index(model).count == 15


def test_an_error_without_words_is_named(model: EmbeddingModel) -> None:
    def no_memory(step: str, done: int, total: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        rebuild_index(model, progress=no_memory)
    assert IndexGeneration.objects.get().reason == "MemoryError()"


def test_a_builder_loads_nothing_of_what_it_built(model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as large as the index, and nobody searches in a worker."""
    store(model, vectors_of(15))
    opens: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(FolderEngine, "open", lambda *spec: opens.append(spec))
        row = rebuild_index(model)
    assert opens == []
    assert (row.status, opened(model).generation) == (Status.PUBLISHED, row.name)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_goes_wrong_after_publication_takes_nothing_back(
    model: EmbeddingModel, error: type[BaseException], settings: Settings
) -> None:
    store(model, vectors_of(15))
    before = rebuild_index(model)

    def late(step: str, done: int, total: int) -> None:
        if (step, done) == ("publishing", 1):
            raise error

    with suppress(KeyboardInterrupt):
        rebuild_index(model, progress=late)
    row = model.generations.get(status=Status.PUBLISHED)
    assert (row.count, row.recall is not None, row.reason) == (15, True, "")
    assert row.name == opened(model).generation != before.name
    assert needs_rebuild(model) is None
    assert index_trouble(model, row) == ""


def test_a_build_that_cannot_begin_is_recorded_and_not_tried_again_at_once(
    model: EmbeddingModel, settings: Settings, tmp_path: Path
) -> None:
    store(model, vectors_of(15))
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    settings.VISEARCH_INDEXES_DIR = in_the_way / "indexes"
    for _ in range(3):
        rebuild_due_indexes()
    row = IndexGeneration.objects.get()
    assert row.status == Status.FAILED
    assert row.reason.startswith("NotADirectoryError")
    in_the_way.unlink()
    assert rebuild_index(model).count == 15


def test_an_engine_that_measures_no_recall_is_measured_by_the_self_test(
    model: EmbeddingModel, settings: Settings
) -> None:
    store(model, vectors_of(15))
    built_by(settings, "SaysNoRecall")
    row = rebuild_index(model)
    assert (row.status, row.recall, opened(model).manifest.measured["recall"]) == (Status.PUBLISHED, 1.0, 1.0)


def test_an_interrupt_is_recorded_too(model: EmbeddingModel, settings: Settings) -> None:
    store(model, vectors_of(15))

    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild_index(model, progress=interrupt)
    assert IndexGeneration.objects.get().status == Status.FAILED
    assert drafts(settings) == []


# --- when it is due ---


def test_without_vectors_nothing_is_due(model: EmbeddingModel) -> None:
    assert needs_rebuild(model) is None


def test_the_first_vectors_make_it_due(model: EmbeddingModel) -> None:
    store(model, vectors_of(1))
    assert "no generation" in str(needs_rebuild(model))


@pytest.mark.parametrize(("new", "due"), [(0, False), (9, False), (10, True)])
def test_enough_new_vectors_make_it_due(model: EmbeddingModel, new: int, due: bool) -> None:
    store(model, vectors_of(100))
    rebuild_index(model)
    store(model, vectors_of(new, seed=1))
    assert (needs_rebuild(model) is not None) is due


@pytest.mark.parametrize(("gone", "due"), [(9, False), (10, True)])
def test_enough_dropped_vectors_make_it_due(model: EmbeddingModel, gone: int, due: bool) -> None:
    rows = store(model, vectors_of(100))
    rebuild_index(model)
    Embedding.objects.filter(pk__in=[row.pk for row in rows[:gone]]).delete()
    assert (needs_rebuild(model) is not None) is due


def test_new_and_dropped_count_together(model: EmbeddingModel) -> None:
    rows = store(model, vectors_of(100))
    rebuild_index(model)
    store(model, vectors_of(6, seed=1))
    Embedding.objects.filter(pk__in=[row.pk for row in rows[:6]]).delete()
    assert "6 vectors are new and 6 are gone" in str(needs_rebuild(model))


def test_a_large_index_waits_for_its_share(model: EmbeddingModel) -> None:
    store(model, vectors_of(400))
    rebuild_index(model)
    store(model, vectors_of(19, seed=1))
    assert needs_rebuild(model) is None
    store(model, vectors_of(1, seed=2))
    assert needs_rebuild(model) is not None


def test_a_damaged_index_is_due(model: EmbeddingModel, settings: Settings) -> None:
    store(model, vectors_of(20))
    generation = rebuild_index(model)
    path = next(Path(settings.VISEARCH_INDEXES_DIR).glob(f"*/{generation.name}/index.hnsw"))
    flip_last_bit(path)
    assert "index.hnsw was altered" in str(needs_rebuild(model))
    rebuild_index(model)
    assert needs_rebuild(model) is None


def put_back(model: EmbeddingModel, vectors: NDArray[np.float32]) -> list[Embedding]:
    """As a dump from before the last five embeddings, restored under the index; then others get their ids."""
    newest = Embedding.objects.filter(model=model).order_by("-id")[:5]
    Embedding.objects.filter(pk__in=[row.pk for row in newest]).delete()
    last = Embedding.objects.order_by("id").values_list("pk", flat=True).last()
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence('catalog_embedding', 'id'), %s)", [last])
    assert "older dump was restored" in str(needs_rebuild(model))
    assert any("index" in said for said in quick.warnings())
    return store(model, vectors)


@pytest.mark.parametrize("count", [3, 5, 7], ids=["still behind", "caught up", "ahead"])
def test_an_index_of_before_an_older_dump_was_restored_is_due(model: EmbeddingModel, count: int) -> None:
    """Also when the ids that it knows have been given out again, as the dump has no record of that index."""
    store(model, vectors_of(120))
    generation = rebuild_index(model)
    assert needs_rebuild(model) is None
    assert quick.warnings() == []
    new = put_back(model, others := vectors_of(count, seed=1))
    generation.delete()
    assert "older dump" in str(needs_rebuild(model))
    rebuild_due_indexes()
    hits = serving.snapshot(model).search(others[0], 1, EVERYWHERE)
    assert hits.ids.tolist() == [new[0].pk]
    assert needs_rebuild(model) is None
    assert quick.warnings() == []


def test_older_vectors_that_are_not_in_it_make_it_due(model: EmbeddingModel) -> None:
    """However few: neither index nor delta finds them."""
    other = EmbeddingModel.objects.create(
        pipeline="face", embedder="tiny", fingerprint="cd" * 32, dimension=DIMENSION, state="serving"
    )
    (early,) = store(other, vectors_of(1))
    store(model, vectors_of(30))
    rebuild_index(model)
    assert needs_rebuild(model) is None
    Embedding.objects.filter(pk=early.pk).update(model=model)
    assert "1 older vectors are not in generation" in str(needs_rebuild(model))


@pytest.mark.parametrize(
    ("index", "options", "word"),
    [
        ({"ENGINE": "default", "METRIC": "l2"}, {"m": 16, "ef_construction": 200}, "metric"),
        ({"ENGINE": "exact", "METRIC": "cosine"}, {"m": 16, "ef_construction": 200}, "engine"),
        ({"ENGINE": "default", "METRIC": "cosine"}, {"m": 24, "ef_construction": 200}, "options"),
    ],
)
def test_other_settings_make_it_due(
    model: EmbeddingModel, settings: Settings, index: dict[str, str], options: dict[str, int], word: str
) -> None:
    store(model, vectors_of(20))
    rebuild_index(model)
    default = {"BACKEND": "search.engines.nmslib_hnsw.NmslibHnsw", "OPTIONS": options}
    settings.VISEARCH_ENGINES = {**settings.VISEARCH_ENGINES, "default": default}
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "image": index}
    assert word in str(needs_rebuild(model))
    rebuild_index(model)
    assert needs_rebuild(model) is None


def test_what_is_due_is_built_and_one_failure_does_not_stop_the_rest(model: EmbeddingModel) -> None:
    face = EmbeddingModel.objects.create(
        pipeline="face", embedder="tiny", fingerprint="ef" * 32, dimension=DIMENSION, state="serving"
    )
    store(face, np.zeros((1, DIMENSION), dtype="<f4"))  # face comes before image, and fails
    store(model, vectors_of(15))
    rebuild_due_indexes()
    assert opened(model).count == 15
    assert IndexGeneration.objects.get(embedding_model=face).status == Status.FAILED
    before = IndexGeneration.objects.filter(embedding_model=model).count()
    rebuild_due_indexes()
    assert IndexGeneration.objects.filter(embedding_model=model).count() == before


def test_a_build_that_failed_is_not_tried_again_at_once(model: EmbeddingModel) -> None:
    store(model, np.zeros((1, DIMENSION), dtype="<f4"))
    rebuild_due_indexes()
    rebuild_due_indexes()
    failed = IndexGeneration.objects.get(embedding_model=model)
    IndexGeneration.objects.filter(pk=failed.pk).update(created_at=failed.created_at - timedelta(hours=1))
    rebuild_due_indexes()
    assert IndexGeneration.objects.filter(embedding_model=model, status=Status.FAILED).count() == 2


def test_a_failure_of_the_future_stops_no_build(model: EmbeddingModel) -> None:
    """The clock was ahead when it failed, and is right again."""
    failed = failed_build(model)
    IndexGeneration.objects.filter(pk=failed.pk).update(created_at=timezone.now() + timedelta(days=400))
    rebuild_due_indexes()
    assert opened(model).count == 15


def test_which_build_was_the_last_is_said_by_no_clock(model: EmbeddingModel) -> None:
    """The clock was ahead when one failed, and its id is from then; the next succeeded, and more is due."""
    failed = failed_build(model)
    IndexGeneration.objects.filter(pk=failed.pk).update(id=UUID(int=2**128 - 1))
    served = rebuild_index(model)
    assert [row.name for row in last_builds(model)] == [served.name, failed.name]
    store(model, vectors_of(30, seed=1))
    rebuild_due_indexes()
    assert opened(model).count == 45


def failed_build(model: EmbeddingModel) -> IndexGeneration:
    """15 vectors are there, and the reason is gone."""
    bad = store(model, np.zeros((1, DIMENSION), dtype="<f4"))[0]
    rebuild_due_indexes()
    bad.delete()
    store(model, vectors_of(15))
    return IndexGeneration.objects.get(status=Status.FAILED)


def test_beat_reads_an_index_that_looks_unchanged_once_an_hour(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(model, vectors_of(20))
    rebuild_index(model)
    needs_rebuild(model)
    with monkeypatch.context() as patched:
        patched.delattr(manifest, "sha256_of")
        assert needs_rebuild(model) is None
        patched.setattr(trust, "_last", {})
        with pytest.raises(NameError):
            needs_rebuild(model)


@contextmanager
def filled(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Less is left of it than a build of 300 vectors needs. Where none could be mounted, writing fails."""
    if not disk.is_mount():
        with monkeypatch.context() as patched:
            patched.setattr(NpyWriter, "append", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"0"))
            yield
        return
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    os.truncate(ballast, ballast.stat().st_size - 12_288)
    yield
    ballast.unlink()


def test_a_full_disk_is_recorded_search_goes_on_and_the_next_build_succeeds(
    model: EmbeddingModel, small_disk: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISEARCH_INDEXES_DIR = small_disk
    store(model, vectors_of(30))
    served = rebuild_index(model)
    vectors = vectors_of(300, seed=1)
    rows = store(model, vectors)
    with filled(small_disk, monkeypatch):
        rebuild_due_indexes()
        rebuild_due_indexes()  # not again at once
        failed = IndexGeneration.objects.exclude(pk=served.pk).get()
        assert (failed.status, "No space left" in failed.reason) == (Status.FAILED, True)
        snapshot = serving.snapshot(model)
        assert snapshot.generation == served.name
        assert snapshot.search(vectors[7], 1, EVERYWHERE).ids.tolist() == [rows[7].pk]
    assert drafts(settings) == []
    IndexGeneration.objects.filter(pk=failed.pk).update(created_at=failed.created_at - timedelta(hours=1))
    rebuild_due_indexes()
    assert opened(model).count == 330


# --- one builder ---


def test_a_second_builder_is_turned_away(model: EmbeddingModel) -> None:
    store(model, vectors_of(15))
    with builder_lock(model), pytest.raises(RebuildRunning, match="another process"):
        rebuild_index(model)
    assert IndexGeneration.objects.count() == 0
    assert rebuild_index(model).count == 15


def test_the_lock_of_one_model_leaves_the_others_alone(model: EmbeddingModel) -> None:
    other = EmbeddingModel.objects.create(
        pipeline="face", embedder="tiny", fingerprint="ef" * 32, dimension=DIMENSION, state="serving"
    )
    with builder_lock(model):
        assert rebuild_index(other).count == 0


def test_a_builder_that_died_after_moving_the_pointer_has_published(model: EmbeddingModel) -> None:
    store(model, vectors_of(15))
    row = rebuild_index(model)
    IndexGeneration.objects.update(status=Status.BUILDING, recall=None, count=0, published_at=None)
    rebuild_index(model)
    row.refresh_from_db()
    assert (row.status, row.count) == (Status.SUPERSEDED, 15)


@pytest.fixture
def committed_model(transactional_db: None) -> Iterator[EmbeddingModel]:
    """A model that other processes see."""
    EmbeddingModel.objects.all().delete()
    yield EmbeddingModel.objects.create(
        pipeline="image", embedder="tiny", fingerprint="ab" * 32, dimension=DIMENSION, state="serving"
    )


def test_kill_9_of_a_builder(committed_model: EmbeddingModel, settings: Settings) -> None:
    """Postgres lets go of its lock, what served serves, and the next builder settles its row."""
    model = committed_model
    store(model, vectors_of(30))
    served = rebuild_index(model)
    store(model, vectors_of(3_000, seed=3))
    process = command_in_a_process(settings)
    wait_for(lambda: any("search.engines.graph_build" in child.cmdline() for child in process.children()))
    process.suspend()  # in the middle of its build for as long as we look
    with pytest.raises(RebuildRunning):
        rebuild_index(model)
    process.kill()
    process.wait()
    assert opened(model).generation == served.name
    assert IndexGeneration.objects.filter(status=Status.BUILDING).count() == 1

    wait_for(lambda: lock_is_free(model))
    assert rebuild_index(model).count == 3_030
    died = IndexGeneration.objects.get(status=Status.FAILED)
    assert "died" in died.reason
    assert drafts(settings) == []


def command_in_a_process(settings: Settings) -> psutil.Popen:
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    env = {**os.environ, "DATABASE_URL": url, "VISEARCH_INDEXES_DIR": str(settings.VISEARCH_INDEXES_DIR)}
    return psutil.Popen([sys.executable, "manage.py", "rebuild_index"], env=env, stdout=subprocess.DEVNULL)


def lock_is_free(model: EmbeddingModel) -> bool:
    try:
        with builder_lock(model):
            return True
    except RebuildRunning:
        return False


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# --- the command ---


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command("rebuild_index", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_it_made(model: EmbeddingModel) -> None:
    store(model, vectors_of(15))
    said = run_command()
    row = IndexGeneration.objects.get()
    for part in ("image", row.name, "15 vectors", f"{row.recall:.4f}", "efSearch 16"):
        assert part in said
    assert "up to date" in run_command("--if-needed", "--pipeline", "image")
    assert IndexGeneration.objects.count() == 1


def test_the_command_fails_with_the_reason(model: EmbeddingModel) -> None:
    bad = store(model, np.zeros((1, DIMENSION), dtype="<f4"))[0]
    with pytest.raises(CommandError, match=f"image: .*{bad.pk}"):
        run_command()


def test_the_command_refuses_a_pipeline_that_nothing_serves(model: EmbeddingModel) -> None:
    with pytest.raises(CommandError, match="face"):
        run_command("--pipeline", "face")


def test_the_command_says_what_to_do_without_models(db: None) -> None:
    EmbeddingModel.objects.all().delete()
    with pytest.raises(CommandError, match=r"manage\.py models build"):
        run_command()


def test_the_command_is_turned_away_by_a_running_build(model: EmbeddingModel) -> None:
    with builder_lock(model), pytest.raises(CommandError, match="another process"):
        run_command()
