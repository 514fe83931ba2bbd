"""A list of addresses from the form to its end, fetched by a worker while somebody looks; and the page of all jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import inspect
from tests.browser.steps import READY_MS, key_of, line, upload
from tests.catalog.intake.web import Answer, Web, serving
from tests.drawn import scene
from tests.library import encoded
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.models]

OPEN = 6  # addresses that are answered before the gate closes
UNDER_WAY = 2  # as VISEARCH_FETCH_PER_HOST lets
PACE = re.compile(r"images a (second|minute), about \d+ (s|min) left")
OF_PAGE = {"Content-Type": "text/html"}
BROKEN = "/catalogue/2026/spring/bags/broken.jpg"
REST_IS_OVER = "UPDATE catalog_intakeline SET lease_until = now() WHERE job_id = '{job}' AND code = 'server-error'"


def drawn(seed: int) -> bytes:
    return encoded(scene(seed), "JPEG", quality=90)


@pytest.fixture
def web() -> Iterator[Web]:
    """A shop elsewhere, of which half comes at once and the rest slowly."""
    with serving() as web:
        web.passes, web.drips = OPEN, True
        yield web


def addresses(web: Web) -> list[str]:
    """Twelve, of which three lead to no image, one to a file that another one has, too, and one to a broken server."""
    first: list[tuple[str, Answer | bytes]] = [
        ("shoes/red.jpg", drawn(1)),
        ("shoes/about.html", (200, OF_PAGE, b"<p>Our shoes")),
        ("shoes/blue.jpg", drawn(2)),
        ("shoes/red-again.jpg", drawn(1)),
        ("shoes/gone.jpg", (404, {}, b"")),
        ("shoes/green.jpg", drawn(3)),
    ]
    slow: list[tuple[str, Answer | bytes]] = [(f"bags/{number}.jpg", drawn(10 + number)) for number in range(4)]
    last: list[tuple[str, Answer | bytes]] = [
        ("bags/letter.jpg", b"Dear customers, there is no image here."),
        ("bags/broken.jpg", (500, {}, b"")),
    ]
    return [web.put(f"/catalogue/2026/spring/{path}", answer) for path, answer in (*first, *slow, *last)]


def has_tried(web: Web, times: int) -> bool:
    return web.asked[BROKEN] == times


@contextmanager
def fetching(site: Stack, web: Web) -> Iterator[None]:
    """A worker that fetches, from this server too, and beat, which has it look again every second."""
    before = dict(site.env)
    site.env |= {"VISEARCH_FETCH_ALLOW": web.allow, "VISEARCH_FETCH_SECONDS": "200"}
    for name in ("intake", "beat"):
        site.start(name)
    try:
        yield
    finally:
        for name in ("intake", "beat"):
            site.kill(name)
        site.env.clear()
        site.env |= before


def test_a_list_is_followed_while_it_is_fetched_and_to_its_end(
    staff: Page, collection: str, site: Stack, web: Web
) -> None:
    with fetching(site, web):
        staff.goto(collection)
        staff.get_by_role("link", name="a list of addresses").click()
        staff.get_by_role("textbox", name="Addresses").fill("\n".join(addresses(web)))
        staff.get_by_role("button", name="Check and begin").click()
        staff.wait_for_url("**/intakejob/*/change/")
        job = key_of(staff.url)
        staff.evaluate("window.isTheSamePage = true")

        expect(staff.locator("[data-done]")).to_have_text("6 of 12 finished", timeout=READY_MS)
        expect(staff.locator("[data-line][data-state='fetching']")).to_have_count(UNDER_WAY)
        expect(staff.locator("[data-line][data-state='waiting']")).to_have_count(12 - OPEN - UNDER_WAY)
        expect(staff.locator("[data-line][data-state='ready']")).to_have_count(3)
        expect(staff.locator("[data-pace]")).to_have_text(PACE)
        expect(staff.get_by_role("button", name="Pause")).to_be_visible()
        assert max(web.asked.values()) == 1
        inspect(staff, "admin-job-running")

        web.open()
        expect(line(staff, "broken.jpg")).to_have_attribute("data-state", "resting", timeout=READY_MS)
        expect(line(staff, "broken.jpg").locator("[data-why]")).to_contain_text("Waiting: The server answers 500")
        expect(staff.locator("[data-done]")).to_have_text("11 of 12 finished", timeout=READY_MS)
        for tries in (2, 3):
            site.execute(REST_IS_OVER.format(job=job))
            wait_for("the next try", partial(has_tried, web, tries))
        expect(staff.locator("[data-done]")).to_have_text("12 of 12 finished", timeout=READY_MS)
        expect(staff.locator("[data-job-says]")).to_have_text("Finished")
        assert staff.evaluate("window.isTheSamePage")
        for name, state, why in (
            ("about.html", "refused", "The server says that this is text/html, not an image."),
            ("red-again.jpg", "duplicate", "the very same file"),
            ("gone.jpg", "refused", "The server answers 404: there is no such file."),
            ("letter.jpg", "refused", "The content is not an image."),
            ("broken.jpg", "failed", "It was tried 3 times"),
        ):
            expect(line(staff, name)).to_have_attribute("data-state", state)
            expect(line(staff, name).locator("[data-why]")).to_contain_text(why)
        expect(staff.locator("[data-line][data-state='ready']")).to_have_count(7)
        inspect(staff, "admin-job-failures")

    staff.goto("/admin/catalog/intakejob/")
    expect(staff.get_by_role("heading", name="Failures of the last day")).to_be_visible()
    inspect(staff, "admin-jobs-with-failures")
    staff.get_by_role("link", name="Add by CSV").click()
    inspect(staff, "admin-csv")
    staff.goto(f"/admin/catalog/intakejob/{job}/change/")
    staff.get_by_role("button", name="Delete").click()
    inspect(staff, "admin-job-delete")
    staff.get_by_role("button", name="Delete the job").click()
    expect(staff.get_by_text("The images that it put in are kept")).to_be_visible()
    assert site.sql("SELECT count(*) FROM catalog_intakejob WHERE id = %s", job) == [(0,)]


def test_the_page_of_all_jobs_follows_by_itself(staff: Page, collection: str, site: Stack) -> None:
    [(name,)] = site.sql("SELECT name FROM catalog_collection WHERE id = %s", key_of(collection))
    staff.goto("/admin/catalog/intakejob/")
    elsewhere = staff.context.new_page()
    upload(elsewhere, collection, [("text.jpg", b"no image")])
    expect(staff.locator("#changelist-form").get_by_text(name)).to_be_visible(timeout=READY_MS)
