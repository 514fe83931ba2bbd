"""Staff in the admin: putting images in, naming and drawing faces, merging people and undoing it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.driver import Watch, inspect
from tests.browser.shop import EDITED, EDITOR, SPEECH, group_photo
from tests.drawn import BAD_FILES, photo
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.models]

READY_MS = 60_000  # until the worker has looked at a few images
OF_PERSON = "SELECT count(*) FROM catalog_region r JOIN catalog_person p ON p.id = r.person_id WHERE p.name = %s"
AS_FILE = {"mimeType": "application/octet-stream"}


@pytest.fixture
def collection(staff: Page, site: Stack) -> str:
    """The address of a new collection's own page, on which both pipelines run."""
    return new_collection(site)


def new_collection(site: Stack) -> str:
    name = f"made {secrets.token_hex(3)}"
    site.manage(
        "shell",
        "-c",
        f"import catalog.models as m; m.Collection.objects.create(name={name!r}, pipelines=['face', 'image'])",
    )
    return f"/admin/catalog/collection/{id_of(site, 'collection', 'name', name)}/change/"


def id_of(site: Stack, table: str, column: str, value: str) -> str:
    [(key,)] = site.sql(f"SELECT id FROM catalog_{table} WHERE {column} = %s ORDER BY id DESC LIMIT 1", value)
    return str(key)


def upload(page: Page, collection: str, files: list[tuple[str, bytes]]) -> None:
    """Choose files in the collection's drop zone and wait until every one has its verdict."""
    page.goto(collection)
    page.locator("#vs-files").set_input_files([{"name": name, "buffer": data, **AS_FILE} for name, data in files])
    expect(page.locator("[data-line][data-finished='1']")).to_have_count(len(files), timeout=READY_MS)


def line(page: Page, name: str) -> Locator:
    return page.locator("[data-line]").filter(has=page.locator("[data-name]", has_text=name))


def open_image(page: Page, site: Stack, collection: str, path: Path, content: bytes | None = None) -> str:
    """Upload a photograph and open its page; its id."""
    upload(page, collection, [(path.name, content or path.read_bytes())])
    image = id_of(site, "image", "original_name", path.name)
    page.goto(f"/admin/catalog/image/{image}/change/")
    return image


def faces(page: Page) -> Locator:
    return page.locator("[data-boxes] [data-face]")


def name_face(page: Page, face: Locator, name: str) -> None:
    face.click()
    page.get_by_role("combobox", name="Name", exact=True).fill(name)
    page.get_by_role("button", name="Save name").click()
    expect(page.locator("[data-who]")).to_have_text(name)


# --- Putting in -------------------------------------------------------------------------------------------------------


def test_many_files_in_of_which_some_are_bad(staff: Page, collection: str, watch: Watch, site: Stack) -> None:
    watch.expect(r"^4\d\d: POST .*upload")  # a refusal may be answered by its status
    good = [(f"good-{number}.jpg", photo(seed=number)) for number in range(14)]
    bad = [(name, content) for name, content, _, _ in BAD_FILES]
    upload(staff, collection, [*good, *bad, ("again.jpg", good[0][1])])
    for name, _ in bad:
        assert line(staff, name).locator("[data-why]").inner_text(), f"{name}: no reason beside its name"
        expect(line(staff, name)).to_have_attribute("data-state", "refused")
    expect(line(staff, "again.jpg")).to_have_attribute("data-state", "duplicate")
    expect(line(staff, "again.jpg").locator("[data-link]")).to_have_attribute("href", line_link(staff, "good-0.jpg"))
    rows = site.sql(
        "SELECT count(*) FROM catalog_image i JOIN catalog_collection c ON c.id = i.collection_id WHERE c.id = %s",
        collection.split("/")[-3],
    )
    assert rows == [(14,)]
    inspect(staff, "admin-upload")


def line_link(page: Page, name: str) -> str:
    link = line(page, name).locator("[data-link]").get_attribute("href")
    assert link
    return link


def test_the_jobs_page_tells_the_same_after_a_reload(staff: Page, collection: str) -> None:
    upload(staff, collection, [("one.jpg", photo(seed=101)), ("text.jpg", b"no image")])
    staff.get_by_role("link", name="the job's own page").click()
    staff.reload()
    expect(line(staff, "one.jpg")).to_have_attribute("data-finished", "1")
    expect(line(staff, "text.jpg").locator("[data-why]")).not_to_be_empty()
    inspect(staff, "admin-job")


def test_a_double_click_on_upload_stores_once(staff: Page, collection: str, site: Stack) -> None:
    staff.goto(collection)
    content = photo(seed=202)
    chosen = {"name": "twice.jpg", "buffer": content, **AS_FILE}
    staff.locator("#vs-files").set_input_files([chosen])
    staff.locator("#vs-files").set_input_files([chosen])
    expect(staff.locator("[data-line][data-finished='1']")).to_have_count(2, timeout=READY_MS)
    assert site.sql("SELECT count(*) FROM catalog_image WHERE original_name = 'twice.jpg'") == [(1,)]


def test_an_editor_gets_404_for_what_is_not_theirs(page: Page, watch: Watch, site: Stack) -> None:
    sign_in(page, EDITOR)
    own = id_of(site, "collection", "name", EDITED)
    page.goto(f"/admin/catalog/collection/{own}/change/")
    expect(page.locator("#vs-files")).to_be_attached()
    watch.expect(r"^404: GET")
    foreign = id_of(site, "collection", "name", "Objects")
    answer = page.goto(f"/admin/catalog/collection/{foreign}/change/")
    assert answer is not None
    assert answer.status == 404


# --- Faces ------------------------------------------------------------------------------------------------------------


def test_naming_a_face_and_taking_it_back(staff: Page, collection: str, site: Stack) -> None:
    image = open_image(staff, site, collection, Path("group.jpg"), group_photo())
    expect(faces(staff)).to_have_count(2)
    name_face(staff, faces(staff).first, "Somebody New")
    named = f"{OF_PERSON} AND r.image_id = %s"
    assert site.sql(named, "Somebody New", image) == [(1,)]
    inspect(staff, "admin-image")
    staff.get_by_role("button", name="Not this person").click()
    expect(staff.locator("[data-who]")).to_be_empty()
    assert site.sql(named, "Somebody New", image) == [(0,)]


def test_people_who_look_alike_are_suggested_and_taken_with_a_click(staff: Page, collection: str, site: Stack) -> None:
    open_image(staff, site, collection, SPEECH)
    faces(staff).first.click()
    staff.get_by_role("button", name="This is Barack Obama").click()
    expect(staff.locator("[data-who]")).to_have_text("Barack Obama")


def test_drawing_a_box_by_mouse_and_by_keyboard(staff: Page, collection: str, site: Stack) -> None:
    image = open_image(staff, site, collection, Path("no-face.jpg"), photo(seed=303, size=(600, 400)))
    expect(faces(staff)).to_have_count(0)
    draw = staff.get_by_role("button", name="Draw a face")
    draw.click()
    staff.locator("[data-stage]").scroll_into_view_if_needed()
    stage = staff.locator("[data-stage]").bounding_box()
    assert stage
    staff.mouse.move(stage["x"] + 20, stage["y"] + 20)
    staff.mouse.down()
    staff.mouse.move(stage["x"] + 120, stage["y"] + 140, steps=4)
    staff.mouse.up()
    staff.get_by_role("button", name="Save the place").click()
    drawn = "SELECT origin, x, width FROM catalog_region WHERE image_id = %s AND pipeline = 'face' ORDER BY id"
    [(origin, left, width)] = wait_for("the drawn face", lambda: site.sql(drawn, image))
    assert (origin, left < 100, width > 30) == ("person", True, True)

    draw.click()  # the new box has the focus: arrows move it, Enter saves
    staff.keyboard.press("ArrowRight")
    staff.keyboard.press("Shift+ArrowDown")
    staff.keyboard.press("Enter")
    wait_for("the second drawn face", lambda: len(site.sql(drawn, image)) == 2)
    expect(faces(staff)).to_have_count(2)


def test_merging_two_people_and_undoing_it(staff: Page, collection: str, site: Stack) -> None:
    first, second = f"Anna {secrets.token_hex(3)}", f"Anne {secrets.token_hex(3)}"
    open_image(staff, site, collection, Path("two.jpg"), group_photo())
    for face, name in ((0, first), (1, second)):
        name_face(staff, faces(staff).nth(face), name)
    person = f"/admin/catalog/person/{id_of(site, 'person', 'name', first)}/change/"
    staff.goto(person)
    inspect(staff, "admin-person")
    staff.get_by_label("Merge with").fill(second)
    staff.get_by_role("button", name="Compare first").click()
    inspect(staff, "admin-merge")
    staff.get_by_role("button", name="Merge these two").click()
    assert (site.sql(OF_PERSON, first), site.sql(OF_PERSON, second)) == ([(2,)], [(0,)])
    staff.goto(person)
    staff.get_by_role("button", name=f"Undo: {second} became {first}").click()
    expect(staff.get_by_text("Undone")).to_be_visible()
    assert (site.sql(OF_PERSON, first), site.sql(OF_PERSON, second)) == ([(1,)], [(1,)])


# --- How it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("index", "/admin/"),
        ("collections", "/admin/catalog/collection/"),
        ("images", "/admin/catalog/image/"),
        ("people", "/admin/catalog/person/"),
        ("health", "/admin/search/indexgeneration/"),
        ("log", "/admin/admin/logentry/"),
    ],
)
def test_every_list_is_usable_by_everybody(staff: Page, name: str, path: str) -> None:
    staff.goto(path)
    inspect(staff, f"admin-{name}")


def test_the_sign_in_page(page: Page) -> None:
    page.goto("/admin/login/")
    inspect(page, "admin-login")
