"""The one story, with nothing replaced: web server, worker, Postgres, Redis and the real networks.

Two official White House photographs of the same man, in the public domain (catalog/samples/README.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.api_client import ApiClient
from tests.stack import ROOT, Stack

LEADERS = ROOT / "catalog" / "samples" / "leaders"
PORTRAIT = LEADERS / "Barack Obama" / "portrait-2012.jpg"
SPEECH = LEADERS / "Barack Obama" / "congress-2009.jpg"
BIDEN = LEADERS / "Joe Biden" / "blue-room-2010.jpg"

pytestmark = [pytest.mark.stack, pytest.mark.models]


def test_an_uploaded_photo_is_found_by_itself_and_by_another_of_the_same_person(stack: Stack) -> None:
    client = ApiClient(stack)
    portrait = client.upload_and_wait(PORTRAIT)
    biden = client.upload_and_wait(BIDEN)
    assert [region["pipeline"] for region in portrait["regions"]].count("face") == 1

    # at once, before any index is built: exact, from the database
    answer = client.search(PORTRAIT)
    assert (answer["pipeline"], answer["generation"]) == ("face", None)
    assert answer["results"][0]["image"]["id"] == portrait["id"]
    assert answer["results"][0]["distance"] == 0
    (first, near), (second, far) = client.found(SPEECH, beyond_near=True)
    assert (first, second) == (portrait["id"], biden["id"])
    assert 0 < near < far

    # after a rebuild NMSLIB answers, and says which generation
    stack.manage("rebuild_index")
    after = client.search(PORTRAIT)
    published = stack.sql(
        "SELECT g.name, g.engine FROM search_indexgeneration g"
        " JOIN catalog_embeddingmodel m ON m.id = g.embedding_model_id"
        " WHERE g.status = 'published' AND m.pipeline = 'face'"
    )
    assert published == [(after["generation"], "nmslib_hnsw")]
    assert (after["results"][0]["image"]["id"], after["results"][0]["distance"]) == (portrait["id"], 0)
    assert [image for image, _ in client.found(SPEECH, beyond_near=True)] == [portrait["id"], biden["id"]]

    # what comes after the generation is found beside it
    speech = client.upload_and_wait(SPEECH)
    assert client.found(SPEECH)[0] == (speech["id"], 0)

    # deleted: found no more, and no file left
    gone = requests.delete(f"{stack.url}/api/v1/images/{portrait['id']}/", headers=client.headers, timeout=60)
    assert gone.status_code == 204
    assert portrait["id"] not in [image for image, _ in client.found(PORTRAIT, beyond_near=True, k=100)]
    media = Path(stack.env["VISEARCH_VAR"]) / "media"
    assert [path for path in media.rglob("*") if portrait["id"] in path.name] == []


def test_the_whole_image_is_searched_where_asked_for(stack: Stack) -> None:
    client = ApiClient(stack)
    portrait = client.upload_and_wait(PORTRAIT)
    answer = client.search(PORTRAIT, pipeline="image")
    assert answer["pipeline"] == "image"
    assert [region["box"] for region in answer["query"]["regions"]] == [{"x": 0, "y": 0, "width": 910, "height": 1137}]
    assert answer["results"][0]["image"]["id"] == portrait["id"]
    assert answer["results"][0]["distance"] == pytest.approx(0, abs=1e-6)


def test_search_from_the_command_line(stack: Stack, tmp_path: Path) -> None:
    client = ApiClient(stack)
    portrait = client.upload_and_wait(PORTRAIT)
    grid = tmp_path / "grid.png"
    done = stack.manage("search", str(PORTRAIT), "-k", "3", "--collection", client.name, "--save-grid", str(grid))
    [first] = [line for line in done.stdout.splitlines() if line.strip().startswith("1 ")]
    assert portrait["id"] in first
    assert "0.0000" in first
    assert grid.read_bytes().startswith(b"\x89PNG")


def test_the_same_file_twice_is_one_image(stack: Stack) -> None:
    client = ApiClient(stack)
    portrait = client.upload_and_wait(PORTRAIT)
    again = client.upload(PORTRAIT)
    assert (again["verdict"], again["image"]) == ("duplicate", portrait["id"])


def test_a_worker_says_what_its_networks_run_on(stack: Stack) -> None:
    ask = "from catalog import workers\nprint([each.runs_on for each in workers.reports()])"
    assert stack.manage("shell", "-c", ask).stdout.splitlines()[-1] == "[('CPU',)]"
