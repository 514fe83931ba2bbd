"""From rows in the database to a published generation, and when that is due."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django_redis import get_redis_connection
from numpy.typing import NDArray
from pytest_django import Settings

from catalog.models import Collection, Embedding, EmbeddingModel, Image, Region
from search.engines.errors import BuildFailed, IndexNotBuilt, InvalidVector
from search.engines.registry import index_for
from search.engines.types import Scope
from search.indexing import needs_rebuild, rebuild_due_indexes, rebuild_index
from search.locks import RebuildRunning, builder_lock, is_building
from search.models import IndexGeneration
from search.pace import pace_of
from search.progress import BuildProgress, Reporter, reported

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


def test_a_build_that_fails_its_self_test_is_recorded_with_its_reason(
    model: EmbeddingModel, settings: Settings
) -> None:
    store(model, vectors_of(15))
    settings.VISEARCH_ENGINES = {"mine": {"BACKEND": "tests.search.engines.lying.DoesNotFindItself"}}
    settings.VISEARCH_INDEXES = {**settings.VISEARCH_INDEXES, "image": {"ENGINE": "mine", "METRIC": "l2"}}
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
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    assert "index.hnsw was altered" in str(needs_rebuild(model))
    rebuild_index(model)
    assert needs_rebuild(model) is None


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
