"""Staff in the admin: putting images in, jobs, naming and drawing faces, merging people and undoing it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.driver import Watch, inspect
from tests.browser.shop import EDITED, EDITOR, SPEECH, STAFF, group_photo
from tests.browser.steps import AS_FILE, READY_MS, id_of, key_of, line, upload
from tests.drawn import BAD_FILES, photo
from tests.stack import Stack, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.models]

Visit = Callable[..., tuple[Page, Watch]]
HEALTH = "/admin/search/indexgeneration/health/"
OF_PERSON = "SELECT count(*) FROM catalog_region r JOIN catalog_person p ON p.id = r.person_id WHERE p.name = %s"


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


def test_200_files_in_of_which_30_are_bad(staff: Page, collection: str, watch: Watch, site: Stack) -> None:
    watch.expect(r"^4\d\d: POST .*upload")  # a refusal may be answered by its status
    kinds = [(name, content) for name, content, _, _ in BAD_FILES]
    bad = [(f"{number}-{kinds[number % len(kinds)][0]}", kinds[number % len(kinds)][1]) for number in range(30)]
    good = [(f"good-{number}.jpg", photo(seed=number, size=(96, 72))) for number in range(169)]
    upload(staff, collection, [*good, *bad, ("again.jpg", good[0][1])])
    for name, _ in bad:
        assert line(staff, name).locator("[data-why]").inner_text(), f"{name}: no reason beside its name"
        expect(line(staff, name)).to_have_attribute("data-state", "refused")
    expect(line(staff, "again.jpg")).to_have_attribute("data-state", "duplicate")
    expect(line(staff, "again.jpg").locator("[data-link]")).to_have_attribute("href", line_link(staff, "good-0.jpg"))
    rows = site.sql(
        "SELECT count(*) FROM catalog_image i JOIN catalog_collection c ON c.id = i.collection_id WHERE c.id = %s",
        key_of(collection),
    )
    assert rows == [(169,)]
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


def test_a_job_that_waits_for_nothing_still_shows_what_comes(staff: Page, collection: str) -> None:
    upload(staff, collection, [("text.jpg", b"no image")])
    job = staff.context.new_page()
    address = staff.get_by_role("link", name="the job's own page").get_attribute("href")
    assert address
    job.goto(address)
    expect(line(job, "text.jpg")).to_have_attribute("data-state", "refused")
    staff.locator("#vs-files").set_input_files([{"name": "late.jpg", "buffer": photo(seed=111), **AS_FILE}])
    expect(line(job, "late.jpg")).to_have_attribute("data-state", "ready", timeout=READY_MS)
    expect(job.locator("[data-line]")).to_have_count(2)
    expect(job.locator("[data-done]")).to_have_text("2 of 2 finished")


def test_what_a_dropped_connection_kept_is_sent_again_with_one_press(
    staff: Page, collection: str, watch: Watch, site: Stack
) -> None:
    watch.expect("failed: POST .*upload")
    staff.goto(collection)
    staff.route("**/upload/", lambda route: route.abort("connectionreset"))
    names = [f"dropped-{number}.jpg" for number in range(12)]
    files = [{"name": name, "buffer": photo(seed=400 + at), **AS_FILE} for at, name in enumerate(names)]
    staff.locator("#vs-files").set_input_files(files)
    again = staff.get_by_role("button", name="Send again all that was not sent")
    expect(again).to_be_visible()
    expect(staff.locator("[data-trouble]")).to_contain_text("The server cannot be reached")
    expect(staff.locator("[data-again]:visible")).to_have_count(3)  # what was under way
    expect(staff.locator("[data-state=queued]")).to_have_count(9)  # the others wait
    staff.unroute("**/upload/")
    again.click()
    expect(staff.locator("[data-line][data-finished='1']")).to_have_count(12, timeout=READY_MS)
    expect(again).to_be_hidden()
    expect(staff.locator("[data-trouble]")).to_be_hidden()
    assert site.sql("SELECT count(*) FROM catalog_image WHERE original_name LIKE %s", "dropped-%") == [(12,)]


def test_one_answer_of_500_makes_the_rest_wait(staff: Page, collection: str, watch: Watch) -> None:
    watch.expect("^500: POST .*upload")
    staff.goto(collection)
    staff.route("**/upload/", lambda route: route.fulfill(status=500, body="trouble"), times=1)
    files = [{"name": f"{number}.jpg", "buffer": photo(seed=500 + number), **AS_FILE} for number in range(8)]
    staff.locator("#vs-files").set_input_files(files)
    again = staff.get_by_role("button", name="Send again all that was not sent")
    expect(again).to_be_visible()
    expect(staff.locator("[data-state=failed]")).to_have_count(1)
    again.click()
    expect(staff.locator("[data-line][data-finished='1']")).to_have_count(8, timeout=READY_MS)


def test_a_double_click_on_upload_stores_once(visit: Visit, collection: str, site: Stack) -> None:
    """Without JavaScript, where the button is; with it a file is sent when it is chosen."""
    page, _ = visit(java_script_enabled=False)
    sign_in(page, STAFF)
    page.goto(collection)
    page.locator("#vs-files").set_input_files([{"name": "twice.jpg", "buffer": photo(seed=202), **AS_FILE}])
    page.get_by_role("button", name="Upload").dblclick(no_wait_after=True)
    page.wait_for_url("**/intakejob/**")
    stored = "SELECT count(*) FROM catalog_image WHERE original_name = 'twice.jpg'"
    wait_for("the file", lambda: site.sql(stored)[0][0])
    page.reload()
    expect(page.locator("[data-line]")).to_have_count(1)
    assert site.sql(stored) == [(1,)]


def test_the_same_file_chosen_twice_is_stored_once(staff: Page, collection: str, site: Stack) -> None:
    staff.goto(collection)
    chosen = {"name": "again-and-again.jpg", "buffer": photo(seed=203), **AS_FILE}
    staff.locator("#vs-files").set_input_files([chosen])
    staff.locator("#vs-files").set_input_files([chosen])
    expect(staff.locator("[data-line][data-finished='1']")).to_have_count(2, timeout=READY_MS)
    assert site.sql("SELECT count(*) FROM catalog_image WHERE original_name = 'again-and-again.jpg'") == [(1,)]


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


def test_a_list_of_addresses_is_checked_begun_paused_and_cancelled(
    staff: Page, collection: str, watch: Watch, site: Stack
) -> None:
    staff.goto(collection)
    staff.get_by_role("link", name="a list of addresses").click()
    addresses = staff.get_by_role("textbox", name="Addresses")
    addresses.fill("https://shop.example/1.jpg\nnowhere\nhttps://shop.example/3.jpg")
    staff.get_by_role("button", name="Check and begin").click()
    expect(staff.get_by_role("alert").filter(has_text="Line 2")).to_be_visible()
    inspect(staff, "admin-addresses-refused")
    addresses.fill("https://shop.example/1.jpg\nhttps://shop.example/3.jpg")
    staff.get_by_role("button", name="Check and begin").click()
    expect(staff.locator("[data-line][data-state='waiting']")).to_have_count(2)
    job = key_of(staff.url)
    staff.get_by_role("button", name="Pause").click()
    expect(staff.locator("[data-job-says]")).to_contain_text("Paused")
    expect(staff.get_by_role("button", name="Pause")).to_be_hidden()
    site.manage("intake_job", job, "resume")  # by somebody else
    expect(staff.get_by_role("button", name="Pause")).to_be_visible(timeout=READY_MS)
    inspect(staff, "admin-job-waiting")
    staff.get_by_role("button", name="Cancel").click()
    inspect(staff, "admin-job-cancel")
    staff.get_by_role("button", name="Cancel the job").click()
    expect(staff.locator("[data-line][data-state='cancelled']")).to_have_count(2)
    expect(staff.get_by_role("button", name="Retry failed")).to_be_visible()


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


# --- Search health ----------------------------------------------------------------------------------------------------


def test_rebuilding_an_index_from_its_page(staff: Page, site: Stack) -> None:
    built = "SELECT count(*) FROM search_indexgeneration g JOIN catalog_embeddingmodel m ON m.id = g.embedding_model_id"
    published = f"{built} WHERE m.pipeline = 'image' AND g.status = 'published'"
    staff.goto(HEALTH)
    panel = staff.locator("[data-pipeline=image]")
    panel.get_by_role("button", name="Rebuild now").click()
    expect(staff.get_by_text("A worker builds the index of 'image'")).to_be_visible()
    wait_for("the generation", lambda: site.sql(published) == [(1,)])
    expect(staff.locator("[data-building]:visible")).to_have_count(0)  # the page loads itself again
    expect(panel.locator("[data-state=ready]")).to_contain_text("published")
    expect(panel.get_by_text("Generation that serves")).to_be_visible()
    inspect(staff, "admin-health")


# --- Evaluations ------------------------------------------------------------------------------------------------------


def test_evaluating_a_collection_and_trying_other_thresholds(staff: Page, site: Stack, visit: Visit) -> None:
    objects = id_of(site, "collection", "name", "Objects")
    limits = "SELECT same_distance, near_distance FROM catalog_embeddingmodel"
    of_image = f"{limits} WHERE pipeline = 'image' AND state = 'serving'"
    before = site.sql(of_image)
    staff.goto(f"/admin/catalog/collection/{objects}/change/")
    staff.get_by_role("link", name="How well its images are found").click()
    staff.get_by_role("button", name="Evaluate now").click()
    run = "SELECT id, status, reason FROM search_evaluationrun WHERE collection_id = %s"
    [(key, status, reason)] = wait_for("the evaluation", lambda: site.sql(run, objects))
    assert status == "done", reason
    expect(staff.locator("[data-building]:visible")).to_have_count(0)  # the page loads itself again
    inspect(staff, "admin-evaluations-of-collection")
    staff.get_by_role("link", name=re.compile(r"^20\d\d-")).click()
    for drawn in staff.locator(".vs-drawing").all():
        assert drawn.evaluate("image => image.complete && image.naturalWidth > 0")
    staff.locator("details").last.locator("summary").click()
    inspect(staff, "admin-evaluation")

    same = staff.get_by_label("same", exact=True)
    staff.get_by_label("same, as a slider").fill("0.1")
    expect(same).to_have_value(re.compile(r"^0\.\d{4}$"))
    expect(staff.get_by_role("button", name=f"Use same {same.input_value()}")).to_be_visible()
    same.fill("9")
    expect(staff.get_by_role("alert").filter(has_text="must be more than same")).to_be_visible()
    assert site.sql(of_image) == before

    same.fill("0.2")
    staff.get_by_label("near", exact=True).fill("0.6")
    staff.get_by_role("button", name="Use same 0.2000 and near 0.6000").click()
    expect(staff.get_by_text("Every search uses them from now on.")).to_be_visible()
    assert site.sql(of_image) == [(0.2, 0.6)]

    plain, _ = visit(java_script_enabled=False)
    plain.context.add_cookies(staff.context.cookies())
    plain.goto(f"/admin/search/evaluationrun/{key}/change/")
    for name, distance in zip(("same", "near"), before[0], strict=True):
        plain.get_by_label(name, exact=True).fill(str(distance))
    plain.get_by_role("button", name="Preview").click()
    plain.get_by_role("button", name="Use same").click()
    assert site.sql(of_image) == before


# --- How it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("index", "/admin/"),
        ("collections", "/admin/catalog/collection/"),
        ("images", "/admin/catalog/image/"),
        ("people", "/admin/catalog/person/"),
        ("jobs", "/admin/catalog/intakejob/"),
        ("generations", "/admin/search/indexgeneration/"),
        ("evaluations", "/admin/search/evaluationrun/"),
        ("log", "/admin/admin/logentry/"),
    ],
)
def test_every_list_is_usable_by_everybody(staff: Page, name: str, path: str) -> None:
    staff.goto(path)
    inspect(staff, f"admin-{name}")


def test_the_sign_in_page(page: Page) -> None:
    page.goto("/admin/login/")
    inspect(page, "admin-login")
