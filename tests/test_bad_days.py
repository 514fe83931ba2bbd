"""What happens to uploads when a part of the product is really killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import requests
from redis import Redis
from uuid_utils.compat import uuid7

from catalog import queues
from tests.api_client import ApiClient
from tests.catalog.intake.web import serving
from tests.drawn import photo
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.models]


def test_an_upload_without_redis_is_kept_and_processed_later(stack: Stack) -> None:
    client = ApiClient(stack)
    stack.kill_redis()
    try:
        line = client.upload_bytes(photo(1), "one.jpg")
        assert line["verdict"] == "stored"
        assert client.get(f"/images/{line['image']}/")["status"] == "queued"
        ready = requests.get(f"{stack.url}/readyz", timeout=30)
        assert ready.status_code == 503
        assert ready.json()["problems"]["redis"]
        nothing_yet = client.post("/search/", data={"pipeline": "image"}, files={"image": ("q.jpg", photo(1))})
        assert line["image"] not in [result["image"]["id"] for result in nothing_yet["results"]]
    finally:
        stack.start_redis()
    stack.start("beat")
    client.wait_until_ready(line["image"])


def test_a_killed_worker_loses_nothing_and_only_what_it_had_is_done_again(stack: Stack) -> None:
    client = ApiClient(stack)
    lines = [client.upload_bytes(photo(seed), f"{seed}.jpg") for seed in range(100, 116)]
    wait_for("an image under way", lambda: _statuses(stack, client, "processing"))
    assert stack.kill("worker") == -9
    in_flight = _statuses(stack, client, "processing")
    assert _statuses(stack, client, "ready") < len(lines)
    stack.start("worker")
    stack.start("beat")  # its sweep finds the lease that has run out
    wait_for("every image", lambda: _statuses(stack, client, "ready") == len(lines))
    extracted = [stack.log("worker").count(f"extracting image {line['image']}") for line in lines]
    assert min(extracted) == 1
    assert sum(extracted) <= len(lines) + in_flight
    [(regions, embeddings)] = stack.sql(
        "SELECT count(DISTINCT r.id), count(e.id) FROM catalog_region r JOIN catalog_image i ON i.id = r.image_id"
        " JOIN catalog_collection c ON c.id = i.collection_id LEFT JOIN catalog_embedding e ON e.region_id = r.id"
        " WHERE c.name = %s",
        client.name,
    )
    assert regions == embeddings >= len(lines)


def test_a_redis_that_is_flushed_and_killed_loses_neither_images_nor_addresses(stack: Stack, tmp_path: Path) -> None:
    client = ApiClient(stack)
    stack.kill("worker")
    sent = [client.upload_bytes(photo(seed), f"{seed}.jpg") for seed in range(200, 204)]
    with serving() as web:
        stack.env["VISEARCH_FETCH_ALLOW"] = web.allow
        addresses = tmp_path / "addresses.txt"
        addresses.write_text("\n".join(web.put(f"/{seed}.jpg", photo(seed)) for seed in range(300, 304)))
        stack.manage("import_urls", str(addresses), "--collection", client.name)
        with Redis.from_url(stack.env["REDIS_URL"]) as redis:
            for queue in ("vision", "intake"):
                assert redis.llen(queue), f"no nudge in {queue} was there to be lost"
            redis.flushall()
        stack.kill_redis()
        stack.start_redis()
        for name in ("worker", "intake", "beat"):
            stack.start(name)
        try:
            wait_for("every image", lambda: _statuses(stack, client, "ready") == len(sent) + 4)
            assert set(web.asked.values()) == {1}
        finally:
            stack.kill("intake")


def _statuses(stack: Stack, client: ApiClient, status: str) -> int:
    [(count,)] = stack.sql(
        "SELECT count(*) FROM catalog_image i JOIN catalog_collection c ON c.id = i.collection_id"
        " WHERE c.name = %s AND i.status = %s",
        client.name,
        status,
    )
    return int(count)


def test_the_sweep_is_done_by_whichever_worker_is_free(stack: Stack) -> None:
    """Here by the one for addresses, as where the other one is busy with images or dead."""
    stack.kill("worker")
    stack.execute(f"INSERT INTO catalog_doomedfiles VALUES ('{uuid7()}', 'JPEG', now())")
    for name in ("intake", "beat"):
        stack.start(name)
    try:
        wait_for("the sweep", lambda: stack.sql("SELECT count(*) FROM catalog_doomedfiles") == [(0,)])
    finally:
        stack.kill("intake")


def test_a_worker_says_that_it_is_there_and_that_it_goes(stack: Stack) -> None:
    redis = Redis.from_url(stack.env["REDIS_URL"])

    def alive() -> list[list[str]]:
        said = {name: json.loads(text)["queues"] for name, text in redis.hgetall(queues.ALIVE).items()}
        return [served for name, served in said.items() if name.startswith(b"intake@")]

    redis.delete(queues.ALIVE)  # what one that was killed has left
    stack.start("intake")
    wait_for("the worker to say that it is there", alive)
    assert alive() == [["intake", queues.SWEEP]]
    stack.kill("intake", signal.SIGTERM)
    assert alive() == []
