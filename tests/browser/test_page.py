"""Shoppers on the page: every way to put a photo in, what can be done with the answer, and all of it without script."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from catalog.samples import pictograms
from tests.browser.driver import Watch, inspect
from tests.browser.shop import BIDEN, PASSWORD, PORTRAIT, SPEECH, STAFF, group_photo
from tests.drawn import BAD_FILES, image_file
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.models]

OBAMA = "Barack Obama"
JPEG = "image/jpeg"


@pytest.fixture(params=[True, False], ids=["script", "no-script"])
def scripted(request: pytest.FixtureRequest) -> bool:
    """The same story with JavaScript, and again without."""
    return bool(request.param)


@pytest.fixture
def somebody(scripted: bool, visit: Callable[..., tuple[Page, Watch]]) -> tuple[Page, Watch]:
    return visit(java_script_enabled=scripted)


def photo_file(content: bytes, name: str = "photo.jpg", kind: str = JPEG) -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": content}


def choose(page: Page, content: bytes, name: str = "photo.jpg", kind: str = JPEG) -> None:
    """Put a photo in by the button; without JavaScript by the form's own button, too."""
    if not page.locator("form.put").count():
        page.goto("/")
    page.locator("input[type=file]").first.set_input_files(photo_file(content, name, kind))
    search = page.get_by_role("button", name="Search", exact=True)
    if search.is_visible():
        search.click()


def cards(page: Page) -> Locator:
    return page.locator("[data-cards] > li")


def names(page: Page) -> list[str]:
    expect(cards(page).first).to_be_visible()
    page.wait_for_load_state()
    return cards(page).locator("h3").all_inner_texts()


def current_pick(page: Page) -> Locator:
    return page.locator(".picks [aria-current=true]")


def drawing(title: str) -> bytes:
    return next(sample.content() for sample in pictograms.read() if sample.facts.title == title)


# --- Every way to put a photo in --------------------------------------------------------------------------------------


def test_the_start_has_one_thing_to_do(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("Choose a photo")).to_be_visible()
    camera = page.locator("input[type=file][capture]")
    expect(camera).to_have_attribute("capture", "environment")
    expect(camera).to_have_attribute("accept", re.compile(r"image/\*"))
    inspect(page, "page-1-empty")


def test_choosing_a_file(somebody: tuple[Page, Watch]) -> None:
    page, _ = somebody
    page.goto("/")
    choose(page, PORTRAIT.read_bytes())
    expect(cards(page).first).to_be_visible()
    assert "the same photo" in cards(page).first.inner_text()
    assert page.locator(".stage img").get_attribute("src", timeout=1000).startswith("data:image/")
    expect(page.locator(".stage .mark")).to_have_count(1)


def hand_over(page: Page, event: str, target: str, content: bytes) -> None:
    """A drop or a paste of a file, as the browser makes it."""
    page.evaluate(
        """([event, target, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
            const made = event === "paste"
                ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
                : new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.querySelector(target).dispatchEvent(made);
        }""",
        [event, target, base64.b64encode(content).decode()],
    )


@pytest.mark.parametrize(("event", "target"), [("drop", "[data-drop]"), ("paste", "body")])
def test_dropping_and_pasting(page: Page, event: str, target: str) -> None:
    page.goto("/")
    hand_over(page, event, target, SPEECH.read_bytes())
    expect(cards(page).first).to_be_visible()
    assert "Congress" in names(page)[0]


def test_while_it_works_the_photo_is_there_already(page: Page) -> None:
    page.route("**/search/", lambda route: route.fulfill(status=204))  # with no content a browser stays where it is
    page.goto("/")
    choose(page, PORTRAIT.read_bytes())
    expect(page.get_by_role("status")).to_contain_text("Looking for faces")
    expect(page.locator("canvas")).to_be_visible()
    inspect(page, "page-2-working")


def test_a_sample_to_click(somebody: tuple[Page, Watch]) -> None:
    page, _ = somebody
    page.goto("/")
    page.locator(".samples a").last.click()
    expect(cards(page).first).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("More like")


# --- What can be done with the answer ---------------------------------------------------------------------------------


def test_picking_the_second_face_of_a_group_photo(somebody: tuple[Page, Watch]) -> None:
    page, _ = somebody
    choose(page, group_photo())
    expect(page.locator(".stage .mark")).to_have_count(2)
    expect(current_pick(page)).to_have_count(1)
    seen = set()
    for number in range(2):
        page.locator(".picks a").nth(number).click()
        expect(page.locator(".picks a").nth(number)).to_have_attribute("aria-current", "true")
        expect(page).to_have_url(re.compile(rf"region={number}"))
        assert "the same photo" not in cards(page).first.inner_text()  # a face of it, not the photo itself
        seen.add(cards(page).first.locator(".card-image img").get_attribute("src"))
    assert len(seen) == 2
    whole = page.locator(".picks a").last
    whole.click()
    expect(page.locator(".picks a").last).to_have_attribute("aria-current", "true")


def test_the_looks_of_an_answer(page: Page) -> None:
    choose(page, SPEECH.read_bytes())
    expect(cards(page).first).to_be_visible()
    inspect(page, "page-3-results")
    page.get_by_text("Why?").first.click()
    expect(page.get_by_text("Distance").first).to_be_visible()
    choose_again(page, group_photo())
    expect(page.locator(".stage .mark")).to_have_count(2)
    inspect(page, "page-4-several-faces")
    choose_again(page, drawing("Red apple"), kind="image/png", name="apple.png")
    expect(page.get_by_text("No face was found")).to_be_visible()
    inspect(page, "page-5-no-face")


def choose_again(page: Page, content: bytes, **options: str) -> None:
    page.get_by_role("link", name="Another photo").click()
    page.wait_for_url("**/")
    choose(page, content, **options)


def test_more_like_this_and_the_images_own_page(somebody: tuple[Page, Watch], scripted: bool) -> None:
    page, _ = somebody
    choose(page, PORTRAIT.read_bytes())
    title = names(page)[0]
    page.get_by_role("link", name=f"More like {title}").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"More like {title}")
    assert title not in names(page)  # more, not itself
    page.get_by_role("link", name="About this image").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    for fact in (OBAMA, "World leaders", "Public domain"):
        expect(page.locator(".about-text")).to_contain_text(fact)
    if scripted:
        inspect(page, "page-8-image")
    page.get_by_role("link", name=OBAMA).first.click()  # its face leads to results
    expect(cards(page).first).to_be_visible()


def test_the_filter_is_in_the_address(somebody: tuple[Page, Watch], site: Stack) -> None:
    page, _ = somebody
    choose(page, drawing("Red apple"), kind="image/png", name="apple.png")
    page.get_by_label("Collection").select_option("Objects")
    page.get_by_label("Label").fill("Fruit")
    apply_filter(page)
    expect(page).to_have_url(re.compile(r"collection=Objects.*label=Fruit"))
    fruit = {title for (title,) in site.sql("SELECT title FROM catalog_image WHERE label = 'Fruit'")}
    expect(page.locator("[data-cards] > li").first).to_be_visible()
    assert set(names(page)) <= fruit
    address = page.url
    page.goto(address)  # somebody got the address
    assert set(names(page)) <= fruit
    expect(page.get_by_label("Label")).to_have_value("Fruit")


def apply_filter(page: Page) -> None:
    button = page.get_by_role("button", name="Apply")
    if button.is_visible():
        button.click()
    else:
        page.get_by_label("Label").press("Enter")


def test_nothing_is_near_and_what_is_nearest_behind_a_click(somebody: tuple[Page, Watch], scripted: bool) -> None:
    page, _ = somebody
    choose(page, image_file((250, 250, 250), (300, 300)))
    page.get_by_label("Collection").select_option("World leaders")
    apply_filter(page)
    expect(page.locator(".note")).to_contain_text("No image here is close to this")
    expect(cards(page)).to_have_count(0)
    if scripted:
        inspect(page, "page-6-nothing-near")
    page.get_by_role("link", name="Show what is near, but not close").click()
    expect(page.get_by_role("heading", name="Not close, but nearest")).to_be_visible()
    expect(page.locator("[data-misses] > li").first).to_contain_text("not close")


def test_more_by_scrolling_and_by_a_link(somebody: tuple[Page, Watch], scripted: bool) -> None:
    page, _ = somebody
    choose(page, drawing("Red apple"), kind="image/png", name="apple.png")
    page.get_by_label("Collection").select_option("Objects")
    apply_filter(page)
    more = page.get_by_role("link", name="Show more")
    expect(cards(page)).to_have_count(20)
    if scripted:
        page.mouse.wheel(0, 20_000)
    else:
        more.click()
    expect(cards(page).nth(20)).to_be_attached()
    listed = names(page)
    assert len(listed) == len(set(listed))


def test_back_leads_to_what_was_before(page: Page) -> None:
    choose(page, group_photo())
    expect(page.locator(".picks a").nth(1)).to_be_visible()
    page.locator(".picks a").nth(1).click()
    expect(page.locator(".picks a").nth(1)).to_have_attribute("aria-current", "true")
    before = names(page)
    page.locator(".picks a").last.click()
    expect(page.locator(".picks a").last).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.locator(".picks a").nth(1)).to_have_attribute("aria-current", "true")
    assert names(page) == before


def objects(page: Page) -> None:
    """Results of which there are many more."""
    choose(page, drawing("Red apple"), kind="image/png", name="apple.png")
    page.get_by_label("Collection").select_option("Objects")
    expect(page).to_have_url(re.compile("collection=Objects"))
    expect(cards(page)).to_have_count(20)


def two_frames(page: Page) -> None:
    """Whatever a scroll or a step sets off has been set off."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def held_back(page: Page, pattern: str) -> list[Route]:
    """The requests for such an address wait in this list until the test lets them go on."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(pattern), hold)
    return held


def test_scrolling_while_a_filter_loads_does_not_stop_it(page: Page) -> None:
    objects(page)
    held = held_back(page, "label=Fruit")
    page.get_by_label("Label").fill("Fruit")
    page.get_by_label("Label").press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    page.mouse.wheel(0, 20_000)
    two_frames(page)
    assert held
    for route in held:
        route.continue_()
    expect(page).to_have_url(re.compile("label=Fruit"))
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


def test_a_filter_keeps_the_focus_where_it_was(page: Page) -> None:
    objects(page)
    page.get_by_label("Collection").focus()
    page.get_by_label("Collection").select_option("World leaders")
    expect(page).to_have_url(re.compile("collection=World"))
    expect(page.get_by_label("Collection")).to_be_focused()
    page.get_by_label("Label").fill("Fruit")
    page.get_by_label("Label").press("Enter")
    expect(page).to_have_url(re.compile("label=Fruit"))
    expect(page.get_by_label("Label")).to_be_focused()


def test_what_is_typed_while_a_filter_loads_stays_and_is_applied(page: Page) -> None:
    choose(page, drawing("Red apple"), kind="image/png", name="apple.png")
    expect(cards(page).first).to_be_visible()
    held = held_back(page, "collection=Objects$")
    page.get_by_label("Collection").select_option("Objects")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    label = page.get_by_label("Label")
    label.press_sequentially("Fru")
    assert len(held) == 1
    held[0].continue_()
    expect(page).to_have_url(re.compile("collection=Objects$"))
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")
    page.keyboard.type("it")
    expect(label).to_have_value("Fruit")
    page.keyboard.press("Tab")
    expect(page).to_have_url(re.compile("collection=Objects&label=Fruit"))


def test_back_from_a_result_shows_all_that_was_scrolled_to(page: Page) -> None:
    objects(page)
    page.mouse.wheel(0, 20_000)
    expect(cards(page).nth(25)).to_be_attached()
    expect(page).to_have_url(re.compile("k=[4-9]0|k=100"))
    cards(page).nth(25).locator("h3 a").click()
    page.wait_for_url("**/images/*/")
    page.go_back()
    expect(page).to_have_url(re.compile("k=[4-9]0|k=100"))
    expect(cards(page).nth(25)).to_be_attached()


def test_show_more_of_a_forgotten_photo_says_that_it_was_forgotten(page: Page, watch: Watch, site: Stack) -> None:
    objects(page)
    store = redis.Redis.from_url(site.env["REDIS_URL"])
    store.delete(*store.scan_iter("visearch:query:*"))
    watch.expect("^404: GET")
    page.get_by_role("link", name="Show more").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("forgotten")


def test_the_skip_link_searches_nothing_again(page: Page) -> None:
    objects(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.resource_type == "fetch" else None)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    two_frames(page)
    page.go_back()
    two_frames(page)
    assert [address for address in asked if "k=" not in address] == []  # more of them may have come into view


def test_signing_in_from_results_and_out_again(somebody: tuple[Page, Watch], scripted: bool) -> None:
    page, _ = somebody
    choose(page, PORTRAIT.read_bytes())
    expect(cards(page).first).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    if scripted:
        inspect(page, "page-10-sign-in")
    page.get_by_label("Name").fill(STAFF)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(cards(page).first).to_be_visible()  # what was found before
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_by_keyboard_alone(page: Page) -> None:
    choose(page, group_photo())
    expect(cards(page).first).to_be_visible()
    second = page.locator(".picks a").nth(1)
    for _ in range(30):
        page.keyboard.press("Tab")
        if second.evaluate("(link) => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".picks a").nth(1)).to_have_attribute("aria-current", "true")
    expect(page.locator(".picks a").nth(1)).to_be_focused()  # the focus stays where it was
    expect(page.locator("[data-live]")).not_to_be_empty()  # and a screen reader hears what was found


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(BAD_FILES)), ids=[name for name, *_ in BAD_FILES])
def test_a_file_that_is_refused_is_named_and_told_why(
    visit: Callable[..., tuple[Page, Watch]], number: int, site: Stack
) -> None:
    name, content, status, _ = BAD_FILES[number]
    page, watch = visit(java_script_enabled=False)
    watch.expect(rf"^{status}: POST ")
    choose(page, content, name, "application/octet-stream")
    said = page.get_by_role("alert")
    expect(said).to_contain_text(name)
    assert len(said.inner_text()) > len(name) + 20
    assert page.locator("input[type=file]").count(), "no way to go on"


def test_what_a_refusal_looks_like(page: Page, watch: Watch) -> None:
    page.goto("/")
    choose(page, b"Dear Sir", "letter.txt", "text/plain")
    expect(page.get_by_role("alert")).to_contain_text("letter.txt")  # without asking the server
    watch.expect(r"^4\d\d: POST ")
    choose(page, image_file(size=(400, 300))[:900], "cut.jpg")
    expect(page.get_by_role("alert")).to_contain_text("cut.jpg")
    inspect(page, "page-7-refused")


def test_an_address_that_is_none(page: Page, watch: Watch) -> None:
    watch.expect("^404: GET")
    answer = page.goto("/images/00000000-0000-7000-8000-000000000000/")
    assert answer is not None
    assert answer.status == 404
    inspect(page, "page-9-not-found")


def test_a_photo_that_was_forgotten(page: Page, watch: Watch, site: Stack) -> None:
    choose(page, PORTRAIT.read_bytes())
    expect(cards(page).first).to_be_visible()
    address = page.url
    assert "/search/" in address
    watch.expect("^404: GET")
    page.goto(re.sub(r"search/[^/]+/", "search/no-such-token-any-more/", address))
    expect(page.get_by_role("heading", level=1)).to_contain_text("forgotten")


def test_without_redis_a_photo_still_gets_its_answer(somebody: tuple[Page, Watch], site: Stack) -> None:
    page, _ = somebody
    site.kill_redis()
    try:
        choose(page, PORTRAIT.read_bytes())
        expect(cards(page).first).to_be_visible()
        expect(page.get_by_text("nothing can be remembered")).to_be_visible()
    finally:
        site.start_redis()


def test_in_german(visit: Callable[..., tuple[Page, Watch]]) -> None:
    page, _ = visit(locale="de-DE")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    choose(page, BIDEN.read_bytes())
    expect(cards(page).first).to_be_visible()
    left = [word for word in ("More like this", "the same photo", "Your photo") if word in page.inner_text("body")]
    assert left == []


def test_the_first_page_is_light(page: Page) -> None:
    """Under 60 kB before images, as sent."""
    sizes: dict[str, int] = {}
    page.on(
        "requestfinished",
        lambda request: (
            sizes.update({request.url: request.sizes()["responseBodySize"]})
            if request.resource_type != "image"
            else None
        ),
    )
    page.goto("/", wait_until="networkidle")
    assert sum(sizes.values()) < 60_000, sizes
    assert sizes[page.url] > 0


def with_noise(photo: bytes) -> bytes:
    """The same faces in bytes that the shop has never had: it stores the photo itself."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    noise = Image.effect_noise(image.size, 60).convert("RGB")
    out = io.BytesIO()
    Image.blend(image, noise, 0.08).save(out, "JPEG", quality=93)
    return out.getvalue()


def test_the_photo_is_in_no_file(page: Page, site: Stack) -> None:
    """What the site writes while a shopper searches (its whole folder and its logs) holds no byte of the photo."""
    content = with_noise(group_photo()) + b"the end of a photo that nobody may keep"
    choose(page, content)
    expect(cards(page).first).to_be_visible()
    marks = [form[start:][:39] for form in (content, base64.b64encode(content)) for start in (-39, len(form) // 2)]
    files = [path for path in Path(site.logs).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if any(mark in path.read_bytes() for mark in marks)] == []
