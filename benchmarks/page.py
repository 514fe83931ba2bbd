"""What a shopper waits for: the time from POST to the whole result page, for a photo of a phone and one of 640 px.

    python -m benchmarks.page ../shared/data [--searches 40]

Everything is real and its own: servers, worker and web server in a temporary folder, which hold the faces and clothes
of DATA and have built their indexes. The phone's photo is one of DATA enlarged to 4000 x 3000 pixels with noise, as
JPEG, so that it has the bytes of one (its size is printed); the other has 640 pixels on its longer side. Each is sent
with a token as a browser without JavaScript does, one after the other, and counts until the last byte of the page is
here. Images that the page shows are not counted. The first searches, which load the networks and the index, are left
out.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import requests

from benchmarks.ingest import SETS, import_all, stack_in
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from benchmarks.photos import phone_photo, small_photo
from tests.stack import Stack
from visearch_site.local.servers import local_servers

WARM_UP = 3
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def fill(stack: Stack, data: Path) -> None:
    """DATA in two public collections, every image ready, the indexes built."""
    stack.start("worker")
    import_all(stack, data)
    stack.manage("rebuild_index")
    stack.kill("worker")


def times_of(stack: Stack, content: bytes, searches: int) -> list[float]:
    """Milliseconds of each search. Raises AssertionError where a page has no results."""
    visitor = requests.Session()
    [token, *_] = TOKEN.findall(visitor.get(f"{stack.url}/", timeout=60).text)
    taken = []
    for _ in range(WARM_UP + searches):
        start = time.perf_counter()
        answer = visitor.post(
            f"{stack.url}/search/",
            data={"csrfmiddlewaretoken": token},
            files={"image": ("photo.jpg", content)},
            timeout=120,
        )
        taken.append((time.perf_counter() - start) * 1000)
        assert answer.status_code == 200, answer.text[:500]
        assert 'class="card"' in answer.text, "no image was found"
    return taken[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--searches", type=int, default=40)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    print(describe("django", "gunicorn", "onnxruntime", "nmslib", "numpy", "pillow", "opencv-python-headless"))
    with (
        own_folder() as folder,
        local_servers(folder, fsync=True) as servers,
        stack_in(folder, servers, "page", 1) as stack,
    ):
        stack.manage("collectstatic", "--no-input")
        fill(stack, data)
        stack.start_web()
        for directory, pipeline in SETS:
            path = min((data / directory).rglob("*.jpg"))
            for what, content in (("12 megapixels", phone_photo(path)), ("640 px", small_photo(path))):
                taken = times_of(stack, content, arguments.searches)
                p50, p95 = np.percentile(taken, [50, 95])
                print(
                    f"POST to whole page, {pipeline}, {what} ({len(content) / 1e3:.0f} kB): "
                    f"p50 {p50:.0f} ms, p95 {p95:.0f} ms ({arguments.searches} searches)"
                )


if __name__ == "__main__":
    main()
