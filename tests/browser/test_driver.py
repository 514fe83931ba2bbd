"""What watches the pages sees what goes wrong on them; else the other tests of this folder would prove little."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.browser.driver import Watch, grave_findings, inspect, opened

pytestmark = pytest.mark.browser

ORIGIN = "http://127.0.0.1:1"  # nobody is there: the tests answer themselves
GOOD = '<!doctype html><html lang="en"><title>t</title><meta name="viewport" content="width=device-width"><h1>t</h1>{}'


def shown(browser: Browser, content: str, policy: str = "") -> tuple[list[str], list[str]]:
    """The problems and the grave findings of a page with this content."""

    def answer(route: Route) -> None:
        if route.request.url == f"{ORIGIN}/":
            headers = {"Content-Type": "text/html", **({"Content-Security-Policy": policy} if policy else {})}
            route.fulfill(headers=headers, body=GOOD.format(content))
        else:
            route.fulfill(status=404)

    with opened(browser, ORIGIN) as (page, watch):
        page.route("**/*", answer)
        page.goto("/", wait_until="networkidle")
        found = grave_findings(page)
        problems = list(watch.problems)
        watch.expect(".")
    return problems, found


def test_a_good_page_is_clean(browser: Browser) -> None:
    assert shown(browser, '<p>t</p><link rel="icon" href="data:,">') == ([], [])


@pytest.mark.parametrize(
    ("content", "policy", "said"),
    [
        ("<script>console.error('broken')</script>", "", "console: broken"),
        ("<script>throw new Error('thrown')</script>", "", "thrown"),
        ("<script>1</script>", "script-src 'self'", "Content Security Policy"),
        ('<img src="/none.png" alt="none">', "", "404: GET"),
        ('<img src="http://example.org/spy.png" alt="spy">', "", "request to somebody else: http://example.org"),
    ],
)
def test_what_a_page_must_not_do_is_noted(browser: Browser, content: str, policy: str, said: str) -> None:
    problems, _ = shown(browser, content + '<link rel="icon" href="data:,">', policy)
    assert said in " ".join(problems)


def test_what_axe_calls_serious_is_found_also_where_scripts_are_forbidden(browser: Browser) -> None:
    _, found = shown(browser, '<img src="data:,">', "script-src 'self'")
    assert "image-alt" in " ".join(found)


def test_a_page_wider_than_a_phone_fails(page: Page, watch: Watch) -> None:
    page.goto("/healthz")
    watch.expect(".")
    page.set_content(GOOD.format('<p style="width: 800px">t</p>'))
    with pytest.raises(AssertionError, match=r"390-dark: the page is \d+ px wider than its window"):
        inspect(page, "too-wide")
