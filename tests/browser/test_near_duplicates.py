"""Staff choose what becomes of near duplicates: by keyboard, and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL.Image import Image as PILImage
from PIL.Image import Transpose
from playwright.sync_api import Page, expect

from tests.browser.driver import Watch, inspect, photograph
from tests.browser.steps import key_of, new_collection, upload
from tests.drawn import scene
from tests.library import encoded
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.models]


def as_jpeg(image: PILImage, quality: int = 90) -> bytes:
    return encoded(image, "JPEG", quality=quality)


COPIES: list[Callable[[PILImage], bytes]] = [
    lambda image: as_jpeg(image.transpose(Transpose.FLIP_LEFT_RIGHT)),
    lambda image: as_jpeg(image.resize((image.width // 2, image.height // 2))),
    lambda image: as_jpeg(image, quality=30),
]


@pytest.fixture
def choices(staff: Page, site: Stack) -> str:
    """The page of near duplicates of a new collection, which holds three copies that were put in after their images."""
    collection = new_collection(site, near_duplicates="hold")
    images = [scene(seed) for seed in range(len(COPIES))]
    upload(staff, collection, [(f"old {number}.jpg", as_jpeg(image)) for number, image in enumerate(images)])
    copies = [(f"new {number}.jpg", copy(images[number])) for number, copy in enumerate(COPIES)]
    upload(staff, collection, copies)
    expect(staff.locator("[data-line][data-state='held']")).to_have_count(len(COPIES))
    expect(staff.locator("[data-done]")).to_have_text("3 of 3 finished")
    return f"/admin/catalog/nearduplicate/?collection={key_of(collection)}"


def left(site: Stack, address: str) -> int:
    key = address.partition("=")[2]
    query = (
        "SELECT count(*) FROM catalog_nearduplicate n JOIN catalog_image i ON i.id = n.image_id"
        " WHERE n.decision = '' AND i.collection_id = %s"
    )
    return int(site.sql(query, key)[0][0])


def test_choosing_by_keyboard(staff: Page, site: Stack, choices: str) -> None:
    inspect(staff, "admin-upload-held")
    staff.goto(choices)
    expect(staff.get_by_text("The same, mirrored")).to_have_count(1)
    expect(staff.get_by_role("figure")).to_have_count(6)
    staff.wait_for_function("[...document.querySelectorAll('figure img')].every((each) => each.naturalWidth > 0)")
    inspect(staff, "admin-near-duplicates")
    for name in ("new 0.jpg", "new 1.jpg"):
        staff.get_by_role("checkbox", name=name).press("Space")
    staff.get_by_role("button", name="Link as a version", exact=True).press("Enter")
    expect(staff.get_by_text("Link as a version: done for 2 pairs.")).to_be_visible()
    assert left(site, choices) == 1
    staff.get_by_role("button", name="Keep both: new 2.jpg and old 2.jpg").press("Enter")
    expect(staff.get_by_text("Nothing to choose")).to_be_visible()
    inspect(staff, "admin-near-duplicates-none")


def test_an_image_goes_only_after_a_yes_also_without_javascript(
    visit: Callable[..., tuple[Page, Watch]], staff_cookies: list[Any], site: Stack, choices: str
) -> None:
    page, _ = visit(java_script_enabled=False)
    page.context.add_cookies(staff_cookies)
    page.goto(choices)
    page.get_by_role("button", name="Discard the new one: new 1.jpg and old 1.jpg").click()
    expect(page.get_by_text("1 image will be deleted")).to_be_visible()
    photograph(page, "admin-near-duplicates-sure")
    assert left(site, choices) == 3
    page.get_by_role("button", name="Discard the new one", exact=True).click()
    expect(page.get_by_text("done for 1 pair")).to_be_visible()
    assert left(site, choices) == 2
    expect(page.get_by_role("button", name="Keep both: new 1.jpg and old 1.jpg")).to_have_count(0)
