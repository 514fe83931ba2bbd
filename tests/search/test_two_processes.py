"""A switch and the way back under queries in two web processes: no error, never empty, never two models in one answer.

How soon the processes follow is measured by `python -m benchmarks.switching`; here it is asserted that they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_client import ApiClient
from tests.drawn import photo
from tests.stack import Stack, new_stack, wait_for
from tests.two_models import ONE, TWO, Loop, looping, models_file, models_that_fit, second_web, switched_at, vectors_of
from visearch_site.local.servers import Servers

pytestmark = pytest.mark.stack
IMAGES = 24


@pytest.fixture
def site(servers: Servers, run_dir: Path, tmp_path: Path) -> Iterator[Stack]:
    settings = {"VISEARCH_MODELS_FILE": str(models_file(tmp_path / "nets")), "VISEARCH_MODELS": str(tmp_path / "built")}
    with new_stack(servers, run_dir, "two_models", **settings) as stack:
        stack.manage("migrate")
        stack.manage("models", "build")
        stack.start("worker")
        stack.start_web()
        yield stack


def embeddings_of(stack: Stack, embedder: str) -> int:
    [(count,)] = stack.sql(
        "SELECT count(*) FROM catalog_embedding e JOIN catalog_embeddingmodel m ON m.id = e.model_id"
        " WHERE m.embedder = %s",
        embedder,
    )
    return int(count)


def has_index(stack: Stack, embedder: str) -> bool:
    return bool(
        stack.sql(
            "SELECT g.id FROM search_indexgeneration g JOIN catalog_embeddingmodel m ON m.id = g.embedding_model_id"
            " WHERE m.embedder = %s AND g.status = 'published'",
            embedder,
        )
    )


def test_two_web_processes_follow_a_switch_and_the_way_back(site: Stack, tmp_path: Path) -> None:
    client = ApiClient(site)
    images = [client.upload_bytes(photo(seed, (64, 48)), f"{seed}.jpg")["image"] for seed in range(IMAGES)]
    wait_for("all images", lambda: embeddings_of(site, ONE) == IMAGES)
    site.manage("rebuild_index", "--pipeline", "image")
    site.manage("model", "fill", TWO)
    wait_for("the worker that fills it", lambda: embeddings_of(site, TWO) == IMAGES)
    wait_for("its index", lambda: has_index(site, TWO))
    other = second_web(site, tmp_path / "second")
    try:
        with looping([site, other], images) as loop:
            loop.wait_for(ONE, 0)
            site.manage("model", "serve", TWO)
            there = switched_at(site, ONE)
            loop.wait_for(TWO, there)
            site.manage("model", "back", "--pipeline", "image")
            back = switched_at(site, TWO)
            loop.wait_for(ONE, back)
    finally:
        other.stop()
    assert not loop.failed
    assert {each.status for each in loop.asked} == {200}
    assert {len(each.results) for each in loop.asked} == {10}
    vectors = {name: vectors_of(site, name) for name in (ONE, TWO)}
    for each in loop.asked:
        assert [each.model.split()[0]] == models_that_fit(each, vectors)
        assert each.generation is not None  # never the slow way: the new index was built before the switch
    for web in range(2):
        assert models_in_turn(loop, web) == [ONE, TWO, ONE]


def models_in_turn(loop: Loop, web: int) -> list[str]:
    """Of one process, by when queries ended that nobody else asked meanwhile: which models, in which order.

    A query that was under way at the switch may be answered by the old model after another was by the new one.
    """
    turns: list[str] = []
    asked = loop.of(web)
    for number, each in enumerate(asked):
        model = each.model.split()[0]
        overlaps = any(one.ended > each.began and one.model != each.model for one in asked[max(0, number - 4) : number])
        if (not turns or turns[-1] != model) and not overlaps:
            turns.append(model)
    return turns
