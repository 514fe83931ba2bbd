"""What happens to uploads when a part of the product is really killed."""

from __future__ import annotations

import pytest
import requests

from tests.api_client import ApiClient
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


def _statuses(stack: Stack, client: ApiClient, status: str) -> int:
    [(count,)] = stack.sql(
        "SELECT count(*) FROM catalog_image i JOIN catalog_collection c ON c.id = i.collection_id"
        " WHERE c.name = %s AND i.status = %s",
        client.name,
        status,
    )
    return int(count)
