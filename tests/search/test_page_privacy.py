"""A shopper's photo after a search: looked for on disk, in the database, in Redis and in the logs of a real stack."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
import requests
from PIL import ExifTags, Image
from psycopg import sql

from catalog.samples.photographs import FOLDER
from search.query_tokens import PREFIX
from tests.api_client import ApiClient
from tests.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.models]

PORTRAIT = FOLDER / "Barack Obama" / "portrait-2012.jpg"
MARKER = "marker-of-a-shoppers-photo-7f3a9c"
NAME = "holiday-with-aunt-2b81.jpg"
SLICE = 64


def marked_photo() -> bytes:
    """A face beside noise that exists nowhere else, with a marker in its EXIF data, its comment and its profile."""
    portrait = Image.open(PORTRAIT).convert("RGB").resize((600, 750))
    noise = np.random.default_rng().integers(0, 256, (750, 300, 3), dtype=np.uint8)
    photo = Image.new("RGB", (900, 750))
    photo.paste(portrait, (0, 0))
    photo.paste(Image.fromarray(noise), (600, 0))
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = MARKER
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=92, exif=exif, comment=MARKER, icc_profile=MARKER.encode() * 4)
    return out.getvalue()


def traces_of(photo: bytes, preview: bytes) -> dict[str, bytes]:
    """What would give the photo away wherever it were."""
    encoded, photo_encoded = base64.b64encode(preview), base64.b64encode(photo)
    return {
        "marker": MARKER.encode(),
        "name": NAME.encode(),
        "photo": photo[len(photo) // 2 :][:SLICE],
        "end of the photo": photo[-SLICE - 2 : -2],
        "photo as text": photo_encoded[len(photo_encoded) // 2 :][:SLICE],
        "preview": preview[len(preview) // 2 :][:SLICE],
        "preview as text": encoded[len(encoded) // 2 :][:SLICE],
    }


def files_of(stack: Stack, since: float) -> Iterator[tuple[str, bytes]]:
    """Everything below the stack's folders (logs, too), and what is new in the folder for temporary files."""
    for path in stack.logs.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for path in Path(tempfile.gettempdir()).glob("*"):
        try:
            if path.is_file() and path.stat().st_mtime >= since:
                yield str(path), path.read_bytes()
        except OSError:  # of somebody else, or gone again
            continue


def columns_of(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every column of every row of every table, as text; vectors and other bytes as they are."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 10
        for schema, table in tables:
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))):
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield f"{schema}.{table}", content


def keys_of(store: redis.Redis) -> Iterator[tuple[str, bytes]]:
    for key in store.scan_iter():
        yield "a key of Redis", key
        yield f"Redis {key!r}", store.dump(key)
        if store.type(key) == b"string":
            yield f"Redis {key!r}", store.get(key)


def assert_nowhere(traces: Mapping[str, bytes], places: Iterator[tuple[str, bytes]]) -> list[str]:
    """The places that were looked at."""
    looked_at = []
    for where, content in places:
        looked_at.append(where)
        found = [what for what, trace in traces.items() if trace in content]
        assert not found, f"{found} in {where}"
    return looked_at


def assert_in_no_file(traces: Mapping[str, bytes], stack: Stack, since: float) -> None:
    looked_at = {Path(where) for where in assert_nowhere(traces, files_of(stack, since))}
    assert {stack.logs / "web.log", stack.logs / "worker.log"} <= looked_at
    stored = {path for path in looked_at if stack.logs / "var" in path.parents}
    assert {path.suffix for path in stored} >= {".jpg", ".webp"}  # of the portrait that was put in


def test_a_shoppers_photo_is_nowhere_after_a_search(stack: Stack, tmp_path: Path) -> None:
    ApiClient(stack).upload_and_wait(PORTRAIT)
    since = tmp_path.stat().st_mtime
    photo = marked_photo()
    shopper = requests.Session()
    first = shopper.get(f"{stack.url}/", timeout=60).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', first)
    assert token

    def searched_with(content: bytes) -> requests.Response:
        form = {"csrfmiddlewaretoken": token[1]}
        image = (NAME, content, "image/jpeg")
        return shopper.post(f"{stack.url}/search/", data=form, files={"image": image}, timeout=60)

    answer = searched_with(photo)
    assert answer.status_code == 200, answer.text[:2000]
    shown = re.search(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", answer.text)
    kept = re.search(r'data-address="([^"]+)"', answer.text)
    assert shown
    assert kept
    preview = base64.b64decode(shown[1])
    traces = traces_of(photo, preview)
    assert traces["marker"] in photo  # so what is looked for is there to be found
    assert traces["photo"] in photo
    assert traces["preview"] in preview
    assert "Face 1" in answer.text
    again = shopper.get(stack.url + unescape(kept[1]), timeout=60)
    assert again.status_code == 200
    assert "data:image" not in again.text
    refused = searched_with(photo[: len(photo) // 3])
    assert refused.status_code == 422

    store = redis.Redis.from_url(stack.env["REDIS_URL"])
    assert len(assert_nowhere(traces, keys_of(store))) > 2
    assert len(assert_nowhere(traces, columns_of(stack))) > 100
    store.save()  # what Redis would write to its disk
    assert_in_no_file(traces, stack, since)
    assert stack.sockets is not None
    for path in stack.sockets.rglob("*"):
        if path.is_file():
            assert_nowhere(traces, iter([(str(path), path.read_bytes())]))

    (query,) = [store.get(key) for key in store.scan_iter(f"{PREFIX}*") if key.decode().removeprefix(PREFIX) in kept[1]]
    remembered = json.loads(query)
    assert set(remembered) == {"width", "height", "looked_for", "unavailable", "vectors"}
    for vector in remembered["vectors"]:
        assert set(vector) == {"pipeline", "box", "score", "fingerprint", "vector"}
        assert len(base64.b64decode(vector["vector"])) in (128 * 4, 1280 * 4)

    stack.kill_redis()
    try:
        unkept = searched_with(photo)
    finally:
        stack.start_redis()
    assert unkept.status_code == 200, unkept.text[:2000]
    assert "data-address" not in unkept.text
    assert len(assert_nowhere(traces, columns_of(stack))) > 100
    assert_in_no_file(traces, stack, since)
