"""What a worker makes of addresses: fetched once, stored once, each with its verdict, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from catalog import storage
from catalog.intake import jobs
from catalog.intake.fetching_lines import take_in
from catalog.models import Collection, Image, IntakeLine
from catalog.tasks import sweep
from tests.catalog.intake.planned import let_all_rest_be_over, plan, verdicts
from tests.catalog.intake.web import JPEG, Web
from tests.catalog.test_uploads import small_disk
from tests.drawn import image_file, photo
from tests.library import PREAMBLE, InThread, files_in, put_image
from tests.stack import ROOT, wait_for

__all__ = ["small_disk"]
pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 20.0


def test_every_address_gets_its_verdict(shop: Collection, web: Web, media: Path) -> None:
    here = put_image(shop, image_file((1, 2, 3)))
    red, png = image_file(), image_file((9, 9, 9), kind="PNG")
    urls = {
        web.put("/red.jpg", red): ("stored", ""),
        web.put("/here.jpg", image_file((1, 2, 3))): ("duplicate", ""),
        web.put("/called.jpg", png): ("stored", ""),
        web.put("/show.php?id=4711", image_file((4, 4, 4))): ("stored", ""),
        web.put("/moved.jpg", (302, {"Location": "/end.jpg"}, b"")): ("stored", ""),
        web.put("/text.jpg", b"This is a text. " * 50): ("refused", "not-an-image"),
        web.put("/page.html", (200, {"Content-Type": "text/html"}, b"<p>Hello")): ("refused", "wrong-type"),
        f"http://{web.host}/nothing.jpg": ("refused", "not-found"),
        "http://127.0.0.1:9/a.jpg": ("refused", "port-not-allowed"),
        "http://169.254.169.254/latest/meta-data": ("refused", "address-not-public"),
    }
    web.put("/end.jpg", image_file((7, 7, 7)))
    job = plan(shop, urls)
    assert take_in(SECONDS) is False
    assert verdicts(job) == urls
    again = plan(shop, [web.put("/red-again.jpg", red)])
    take_in(SECONDS)
    assert list(verdicts(again).values()) == [("duplicate", "")]
    assert Image.objects.count() == 5
    stored = job.lines.get(source__endswith="/red.jpg")
    assert stored.image is not None
    assert (stored.image.source_url, stored.image.original_name) == (stored.url, "red")
    assert job.lines.get(source__endswith="/here.jpg").image == here
    assert all(line.reason for line in job.lines.filter(verdict="refused"))
    assert len(files_in(media)) == 5
    assert max(web.asked.values()) == 1


def test_what_the_list_says_of_an_image_is_kept(shop: Collection, web: Web) -> None:
    url = web.put("/a.jpg", image_file())
    facts = {
        "label": "4711",
        "tags": ["red", "new"],
        "link": "https://shop.test/4711",
        "source_url": "https://b.test/a",
    }
    lines = [jobs.PlannedLine(url, 1, url=url, facts=facts, person_name="Ada")]
    job = jobs.create(shop, "csv", lines, normalise="square:64")
    take_in(SECONDS)
    image = Image.objects.get()
    assert (image.label, image.link, image.source_url) == ("4711", "https://shop.test/4711", "https://b.test/a")
    assert sorted(tag.name for tag in image.tags.all()) == ["new", "red"]
    assert (image.width, image.height) == (64, 64)
    assert job.lines.get().person_name == "Ada"


def test_few_at_a_time_are_asked_of_a_host(shop: Collection, web: Web, settings: Settings) -> None:
    settings.VISEARCH_FETCH_AT_ONCE, settings.VISEARCH_FETCH_PER_HOST = 8, 2
    job = plan(shop, [web.put(f"/{number}.jpg", image_file((20 * number, 1, 1))) for number in range(12)])
    web.gate.clear()
    work = [InThread(lambda: take_in(SECONDS)) for _ in range(2)]
    wait_for("two requests", lambda: sum(web.asked.values()) == 2)
    web.gate.set()
    for each in work:
        each.outcome()
    assert {verdict for verdict, _ in verdicts(job).values()} == {"stored"}
    assert web.most_at_once == 2
    assert set(web.asked.values()) == {1}


def test_a_server_that_wants_to_be_left_alone_is_asked_later(shop: Collection, web: Web) -> None:
    busy = (429, {"Retry-After": "120"}, b"")
    job = plan(shop, [web.put("/a.jpg", busy, (200, JPEG, image_file()))])
    take_in(SECONDS)
    take_in(SECONDS)
    line = job.lines.get()
    assert (line.verdict, line.code, web.asked["/a.jpg"]) == ("waiting", "slow-down", 1)
    assert "Waiting" in line.reason
    let_all_rest_be_over()
    take_in(SECONDS)
    assert verdicts(job) == {line.source: ("stored", "")}


def test_a_server_that_counts_requests_gives_all_in_the_end(shop: Collection, web: Web) -> None:
    busy = (429, {"Retry-After": "0"}, b"")
    urls = [web.put(f"/{number}.jpg", *[busy] * 4, (200, JPEG, photo(number))) for number in range(4)]
    job = plan(shop, urls)
    take_in(10 * SECONDS)
    assert verdicts(job) == dict.fromkeys(urls, ("stored", ""))


def test_a_server_that_is_broken_is_asked_three_times(shop: Collection, web: Web) -> None:
    job = plan(shop, [web.put("/a.jpg", (500, {}, b""))])
    for _ in range(4):
        take_in(SECONDS)
        let_all_rest_be_over()
    line = job.lines.get()
    assert (line.verdict, line.code, web.asked["/a.jpg"]) == ("failed", "server-error", 3)
    assert jobs.retry_failed(job) == 1
    web.put("/a.jpg", image_file())
    take_in(SECONDS)
    assert verdicts(job) == {line.source: ("stored", "")}


def test_a_full_disk_loses_no_line(shop: Collection, web: Web, small_disk: Path) -> None:
    large = web.put("/large.jpg", photo())
    job = plan(shop, [large])
    assert take_in(SECONDS) is False
    line = job.lines.get()
    assert (line.verdict, line.code, line.attempts) == ("waiting", "disk-full", 0)
    assert "No space left" in line.reason
    web.put("/large.jpg", image_file())
    let_all_rest_be_over()
    take_in(SECONDS)
    assert verdicts(job) == {large: ("stored", "")}


def test_a_pause_lets_what_is_under_way_finish_and_holds_it(shop: Collection, web: Web, settings: Settings) -> None:
    settings.VISEARCH_FETCH_PER_HOST = 1
    web.gate.clear()
    job = plan(shop, [web.put("/a.jpg", image_file()), web.put("/b.jpg", image_file((9, 9, 9)))])
    work = InThread(lambda: take_in(SECONDS))
    wait_for("a request", lambda: web.asked)
    jobs.pause(job)
    web.gate.set()
    work.outcome()
    assert sorted(verdicts(job).values()) == [("stored", ""), ("waiting", "")]
    assert sum(web.asked.values()) == 1
    assert list(Image.objects.values_list("status", "held_for")) == [("held", "pause")]
    jobs.resume(job)
    take_in(SECONDS)
    assert sorted(verdicts(job).values()) == [("stored", ""), ("stored", "")]


# --- Workers that die -------------------------------------------------------------------------------------------------

WORKS = """
from catalog.intake.fetching_lines import take_in
print("working", flush=True)
take_in(60)
"""
DIES_BEFORE_THE_ROW = """
save = storage.save_original
storage.save_original = lambda key, file: (save(key, file), os.kill(os.getpid(), signal.SIGKILL))
"""


def worker(media: Path, web: Web, program: str = "") -> subprocess.Popen[str]:
    url = os.environ["DATABASE_URL"].replace("/visearch?", f"/{connection.settings_dict['NAME']}?")
    env = {**os.environ, "DATABASE_URL": url, "VISEARCH_MEDIA": str(media), "VISEARCH_FETCH_ALLOW": web.allow}
    command = [sys.executable, "-c", PREAMBLE + program + WORKS]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_worker_that_is_killed_while_it_fetches_loses_no_line(shop: Collection, web: Web, media: Path) -> None:
    web.gate.clear()
    job = plan(shop, [web.put("/a.jpg", image_file()), web.put("/b.jpg", image_file((9, 9, 9)))])
    died = worker(media, web)
    wait_for("both requests", lambda: sum(web.asked.values()) == 2)
    died.kill()
    assert died.wait() == -signal.SIGKILL
    web.gate.set()
    assert take_in(SECONDS) is False
    assert {verdict for verdict, _ in verdicts(job).values()} == {"waiting"}  # the lease still holds
    let_all_rest_be_over()
    take_in(SECONDS)
    assert {verdict for verdict, _ in verdicts(job).values()} == {"stored"}
    assert Image.objects.count() == len(files_in(media)) == 2
    assert set(web.asked.values()) == {2}


def test_a_worker_that_is_killed_while_it_stores_loses_no_line_and_leaves_no_file(
    shop: Collection, web: Web, media: Path, settings: Settings
) -> None:
    job = plan(shop, [web.put("/a.jpg", image_file())])
    died = worker(media, web, DIES_BEFORE_THE_ROW)
    assert died.wait(60) == -signal.SIGKILL, died.stdout and died.stdout.read()
    [(verdict, _)] = verdicts(job).values()
    assert verdict == "receiving"
    [stray] = files_in(media)
    settings.VISEARCH_LEASE_SECONDS = -1
    sweep()
    assert files_in(media) == []
    line = job.lines.get()
    assert (line.verdict, line.code, line.attempts) == ("waiting", "interrupted", 1)
    settings.VISEARCH_LEASE_SECONDS = 60
    take_in(SECONDS)
    line.refresh_from_db()
    assert (line.verdict, line.attempts) == ("stored", 2)
    assert [stray] != files_in(media)
    assert Image.objects.count() == len(files_in(media)) == 1


def test_a_slow_worker_whose_line_was_taken_stores_nothing_twice(
    shop: Collection, web: Web, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is stored, its row not yet, when the sweep gives its line up and another worker takes it."""
    job = plan(shop, [web.put("/a.jpg", image_file())])
    save = storage.save_original

    def save_slowly(key: str, file: object) -> None:
        monkeypatch.setattr(storage, "save_original", save)
        save(key, file)  # type: ignore[arg-type]
        IntakeLine.objects.update(received_at="2020-01-01T00:00Z")
        InThread(sweep).outcome()
        let_all_rest_be_over()
        InThread(lambda: take_in(SECONDS)).outcome()

    monkeypatch.setattr(storage, "save_original", save_slowly)
    take_in(SECONDS)
    assert Image.objects.count() == len(files_in(media)) == 1
    line = job.lines.get()
    assert (line.verdict, line.image, line.reason) == ("stored", Image.objects.get(), "")


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Fetching threads that go on after a test would use its database."""
    yield
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
