"""The chromium of the system under playwright: pages that are watched, audited and photographed.

playwright's own browsers are not used, so nothing is downloaded. What a page must never do (an error in the console, a
script error, a violation of the CSP, a failed request, a request to somebody else) is collected while a test runs and
fails it at the end, unless the test said that it expects it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {390: 844, 1280: 900}  # a phone and a desk: width and height in CSS pixels
SCHEMES = ("light", "dark")
AUDITED = ("390-dark", "1280-light")
GRAVE = ("serious", "critical")
SCREENSHOTS = "VISEARCH_SCREENSHOTS"  # a folder; nothing is photographed where it is unset
# django-unfold asks which scheme is preferred when it loads, and not again; the page itself has no such class.
DARK_CLASS = "(dark) => document.documentElement.classList.toggle('dark', dark)"
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


def installed_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """Chromium without a window, and without its sandbox, which root cannot have."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """Collects what goes wrong on the pages of a context."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.origin = origin
        self.problems: list[str] = []
        self.expected: list[re.Pattern[str]] = []
        context.on("console", self._console)
        context.on("weberror", lambda error: self.problems.append(f"script error: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    def expect(self, pattern: str) -> None:
        """From now on a problem that matches is none."""
        self.expected.append(re.compile(pattern))

    def assert_clean(self) -> None:
        left = [problem for problem in self.problems if not any(it.search(problem) for it in self.expected)]
        assert not left, "\n".join(left)

    def _console(self, message: ConsoleMessage) -> None:
        # An answer with an error status is noted with its address by _response; the console repeats it.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:", "about:")):
            self.problems.append(f"request to somebody else: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself, or leaving it, gave this one up
            self.problems.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.request.method} {response.url}")


@contextmanager
def opened(browser: Browser, origin: str, **options: Any) -> Iterator[tuple[Page, Watch]]:
    """A page in a context of its own (a visitor without cookies), and what watches it. It must be clean at the end."""
    width = 1280
    context = browser.new_context(
        **{"base_url": origin, "locale": "en-GB", "viewport": {"width": width, "height": WIDTHS[width]}, **options}
    )
    context.set_default_timeout(PATIENCE_MS)
    watch = Watch(context, origin)
    try:
        yield context.new_page(), watch
        watch.assert_clean()
    finally:
        context.close()


def looks(page: Page) -> Iterator[str]:
    """The page at both widths, light and dark, without motion; the name of each look. Then it is as it was."""
    before = page.viewport_size
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.evaluate(DARK_CLASS, scheme == "dark")
            yield f"{width}-{scheme}"
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    page.evaluate(DARK_CLASS, False)
    if before is not None:
        page.set_viewport_size(before)


def inspect(page: Page, name: str) -> None:
    """At both widths, one light and one dark: axe finds nothing serious, nothing is wider than the window.

    Where a folder is set, every look is photographed and audited: axe takes most of these tests' time.
    """
    found = []
    for look in looks(page):
        if look not in AUDITED and not os.environ.get(SCREENSHOTS):
            continue
        photograph(page, f"{name}-{look}")
        found += [f"{look}: {finding}" for finding in grave_findings(page)]
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found += [f"{look}: the page is {wider} px wider than its window"] if wider else []
    assert not found, "\n".join(found)


def grave_findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical: the rule, what it says, and where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['impact']} {each['id']}: {each['help']}: " + ", ".join(str(node["target"]) for node in each["nodes"])
        for each in found
        if each["impact"] in GRAVE
    ]


def photograph(page: Page, name: str) -> None:
    folder = os.environ.get(SCREENSHOTS)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
