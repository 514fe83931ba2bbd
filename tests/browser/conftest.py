"""A stack of these tests' own, with a small shop in it, and visitors who use it with Debian's chromium.

playwright keeps an event loop in the thread while it runs, which Django's ORM refuses to work beside; so it runs for
one module at a time, and these tests look into the database with plain SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.driver import Watch, chromium, installed_chromium, opened
from tests.browser.shop import PASSWORD, STAFF, fill
from tests.browser.steps import new_collection
from tests.stack import Stack, new_stack, wait_for
from visearch_site.local.servers import Servers

LAST_LINES = 40  # of a log, beside a test that failed


@pytest.fixture(scope="session")
def program() -> str:
    found = installed_chromium()
    if found is None:
        pytest.skip("no chromium in PATH; on Debian: apt-get install chromium")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed also shows what the processes said last."""
    report = yield
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site is not None:
        for name in ("web", "worker", "intake"):
            report.sections.append((f"log of {name}", "\n".join(site.log(name).splitlines()[-LAST_LINES:])))
    return report


@pytest.fixture(scope="session")
def site(program: str, servers: Servers, run_dir: Path) -> Iterator[Stack]:
    """The whole product, serving, with the shop's images ready."""
    with new_stack(servers, run_dir, "browser") as stack:
        stack.manage("migrate")
        stack.manage("collectstatic", "--no-input")
        stack.manage("models", "build")
        stack.start("worker")
        stack.start_web()
        fill(stack)
        waiting = "SELECT count(*) FROM catalog_image WHERE status NOT IN ('ready', 'failed')"
        wait_for("the shop's images", lambda: stack.sql(waiting)[0][0] == 0)
        yield stack


@pytest.fixture(scope="module")
def browser(program: str) -> Iterator[Browser]:
    with chromium(program) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, site: Stack) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """Opens the site as somebody new; options are those of playwright's new_context."""
    with ExitStack() as visits:
        yield lambda **options: visits.enter_context(opened(browser, site.url, **options))


@pytest.fixture
def visitor(visit: Callable[..., tuple[Page, Watch]]) -> tuple[Page, Watch]:
    """A shopper with JavaScript, who has nothing open yet, and what watches them."""
    return visit()


@pytest.fixture
def page(visitor: tuple[Page, Watch]) -> Page:
    return visitor[0]


@pytest.fixture
def watch(visitor: tuple[Page, Watch]) -> Watch:
    return visitor[1]


@pytest.fixture(scope="module")
def staff_cookies(browser: Browser, site: Stack) -> list[Any]:
    """Those of a superuser who has signed in to the admin, once: checking a password is slow by intent."""
    with opened(browser, site.url) as (page, _):
        sign_in(page, STAFF)
        return list(page.context.cookies())


@pytest.fixture
def staff(page: Page, staff_cookies: list[Any]) -> Page:
    """A superuser who has signed in to the admin."""
    page.context.add_cookies(staff_cookies)
    return page


@pytest.fixture
def collection(staff: Page, site: Stack) -> str:
    """The address of a new collection's own page, on which both pipelines run."""
    return new_collection(site)


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Username").fill(name)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
