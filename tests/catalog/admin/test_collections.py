"""Collections in the admin: their form and figures, and putting images in, with and without JavaScript."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from catalog import tasks
from catalog.admin.collections import CollectionForm
from catalog.admin.uploading import MOST_AT_ONCE
from catalog.models import Collection, Image, IntakeJob, IntakeLine, Person
from tests.cast import Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client, take_redis_from, told
from tests.catalog.api.conftest import cast
from tests.drawn import BAD_FILES, image_file

__all__ = ["cast"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("media")]
LIST = "admin:catalog_collection_changelist"
JSON = {"HTTP_ACCEPT": "application/json"}
HTML = {"HTTP_ACCEPT": "text/html,*/*"}


@pytest.fixture
def editor(cast: Cast) -> Client:
    return staff_client(cast, "editor")


def upload_url(collection: Collection) -> str:
    return reverse("admin:catalog_collection_upload", args=[collection.pk])


def change_url(collection: Collection) -> str:
    return reverse("admin:catalog_collection_change", args=[collection.pk])


def job_url(job: object) -> str:
    return reverse("admin:catalog_intakejob_change", args=[job])


def file(name: str = "red.jpg", data: bytes | None = None, number: int = 0) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, image_file(size=(64 + number, 48)) if data is None else data)


def send(client: Client, collection: Collection, job: UUID, each: SimpleUploadedFile) -> dict[str, Any]:
    """As the page's script does, one file."""
    answer = client.post(upload_url(collection), {"job": str(job), "name": each.name, "images": each}, **JSON)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.content
    said: dict[str, Any] = answer.json()
    return said


# --- The form ---------------------------------------------------------------------------------------------------------


def test_a_superuser_makes_a_collection(cast: Cast) -> None:
    group = cast.editor.groups.get()
    sent = {"name": "new", "pipelines": ["face"], "face_search": "everyone", "is_public": "on", "editors": [group.pk]}
    sent["near_duplicates"] = "hold"
    assert staff_client(cast, "superuser").post(reverse("admin:catalog_collection_add"), sent).status_code == 302
    made = Collection.objects.get(name="new")
    assert (made.pipelines, made.face_search, made.is_public) == (["face"], "everyone", True)
    assert made.near_duplicates == "hold"
    assert list(made.editors.all()) == [group]


def test_only_pipelines_of_the_settings_can_be_chosen(cast: Cast) -> None:
    sent = {"name": "new", "pipelines": ["smell"], "near_duplicates": "warn", "face_search": "staff"}
    answer = staff_client(cast, "superuser").post(reverse("admin:catalog_collection_add"), sent)
    assert b"smell is not one of the available choices" in answer.content
    assert not Collection.objects.filter(name="new").exists()


def test_a_new_pipeline_says_what_to_do_with_the_images_that_are_here(cast: Cast, editor: Client) -> None:
    Collection.objects.filter(pk=cast.private.pk).update(pipelines=["image"])
    make_image(cast.private)
    sent = {"name": "private", "pipelines": ["face", "image"], "near_duplicates": "warn", "face_search": "staff"}
    answer = editor.post(change_url(cast.private), sent, follow=True)
    assert "face is new here" in told(answer)


def test_saving_leaves_alone_what_others_changed_meanwhile(
    cast: Cast, editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Collection.objects.filter(pk=cast.private.pk)

    def changing(form: CollectionForm) -> None:  # between loading the collection and saving the form
        row.update(description="by another", is_public=True)

    monkeypatch.setattr(CollectionForm, "clean", changing)
    sent = {"name": "renamed", "pipelines": ["face", "image"], "description": cast.private.description}
    sent["near_duplicates"] = "warn"
    assert editor.post(change_url(cast.private), sent).status_code == 302
    assert row.values_list("name", "description", "is_public").get() == ("renamed", "by another", True)


def test_a_collection_that_was_deleted_meanwhile_stays_deleted(
    cast: Cast, editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Collection.objects.filter(pk=cast.private.pk)
    monkeypatch.setattr(CollectionForm, "clean", lambda form: row.delete() and None)
    sent = {"name": "renamed", "pipelines": ["face"], "near_duplicates": "warn"}
    answer = editor.post(change_url(cast.private), sent, follow=True)
    assert "Nothing was saved: the collection was deleted meanwhile" in told(answer)
    assert not Collection.objects.filter(name="renamed").exists()


def test_deleting_a_collection_deletes_its_images_and_says_how_many(cast: Cast) -> None:
    for _ in range(3):
        make_face(make_image(cast.private))
    client, url = staff_client(cast, "superuser"), reverse("admin:catalog_collection_delete", args=[cast.private.pk])
    assert client.get(url).context["model_count"] == {"collections": 1, "images": 3}.items()
    client.post(url, {"post": "yes"})
    assert not Image.objects.exists()


# --- The list ---------------------------------------------------------------------------------------------------------


def test_the_list_counts(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private)
    make_image(cast.private, status="failed", reason="It is broken.")
    make_face(image)
    make_face(image, Person.objects.create(name="Ada"))
    make_face(image, dismissed=True)
    make_face(image, pipeline="image")
    make_image(cast.public)
    rows = {row.name: row for row in editor.get(reverse(LIST)).context["cl"].result_list}
    found = [
        (row.image_count, row.face_count, row.unnamed_count, row.failed_count)
        for row in (rows["private"], rows["public"])
    ]
    assert found == [(2, 2, 1, 1), (1, 0, 0, 0)]


def test_its_figures_lead_to_those_images(cast: Cast, editor: Client) -> None:
    image = make_image(cast.private, title="with a face")
    make_face(image)
    make_image(cast.private, title="broken", status="failed", reason="It is broken.")
    make_image(cast.public, title="elsewhere", status="failed", reason="It is broken.")
    figures = {each["name"]: each for each in editor.get(change_url(cast.private)).context["figures"]}
    for name, expected in (("images", {"with a face", "broken"}), ("failed", {"broken"})):
        shown = editor.get(figures[name]["url"]).context["cl"].result_list
        assert {each.title for each in shown} == expected
    unnamed = editor.get(figures["faces without a name"]["url"]).context["cl"].result_list
    assert [each.title for each in unnamed] == ["with a face"]


def test_the_list_costs_the_same_for_any_number_of_collections(cast: Cast) -> None:
    client = staff_client(cast, "superuser")
    client.get(reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(LIST))
    for number in range(10):
        make_face(make_image(Collection.objects.create(name=str(number))))
    with CaptureQueriesContext(connection) as many:
        client.get(reverse(LIST))
    assert len(many) == len(few)


# --- Putting in, one request for each file ----------------------------------------------------------------------------


def test_every_file_gets_its_line_in_one_job(cast: Cast, editor: Client) -> None:
    job = uuid4()
    stored = send(editor, cast.private, job, file())
    again = send(editor, cast.private, job, file("again.jpg"))
    refused = send(editor, cast.private, job, file("empty.jpg", b""))
    assert [each["verdict"] for each in (stored, again, refused)] == ["stored", "duplicate", "refused"]
    image = Image.objects.get()
    assert image.uploader == cast.editor
    assert stored["image"] == again["image"] == str(image.pk)
    assert again["url"] == reverse("admin:catalog_image_change", args=[image.pk])
    assert refused["code"] == "empty-file"
    assert "file is empty" in refused["why"]
    [row] = IntakeJob.objects.all()
    assert (row.pk, row.source, row.started_by, row.lines.count()) == (job, "admin", cast.editor, 3)


@pytest.mark.parametrize(("name", "data", "code"), [(name, data, code) for name, data, _, code in BAD_FILES])
def test_what_no_door_takes(cast: Cast, editor: Client, name: str, data: bytes, code: str) -> None:
    said = send(editor, cast.private, uuid4(), file(name, data))
    assert (said["state"], said["code"], said["source"]) == ("refused", code, name)
    assert said["why"]
    assert not Image.objects.exists()


def test_a_file_that_is_too_large_gets_its_line_without_being_sent(cast: Cast, editor: Client) -> None:
    sent = {"job": str(uuid4()), "name": "film.mov", "too_large": str(3_000_000_000)}
    said = editor.post(upload_url(cast.private), sent, **JSON).json()  # type: ignore[arg-type]
    assert (said["state"], said["code"], said["source"]) == ("refused", "too-many-bytes", "film.mov")
    assert "3,000,000,000 bytes" in said["why"]


def test_a_request_that_is_too_large_gets_its_line(cast: Cast, editor: Client, settings: Settings) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 1000}
    said = send(editor, cast.private, uuid4(), file("large.jpg", b"x" * 1_100_000))
    assert (said["state"], said["code"], said["source"]) == ("refused", "too-many-bytes", "large.jpg")


def test_a_request_without_a_file_makes_no_job(cast: Cast, editor: Client) -> None:
    answer = editor.post(upload_url(cast.private), {"job": str(uuid4())}, **JSON)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert not IntakeJob.objects.exists()


def test_a_job_of_somebody_else_takes_nothing(cast: Cast, editor: Client) -> None:
    theirs = IntakeJob.objects.create(collection=cast.private, source="admin", started_by=cast.superuser)
    elsewhere = IntakeJob.objects.create(collection=cast.public, source="admin", started_by=cast.editor)
    for job in (theirs.pk, elsewhere.pk, "no id"):
        answer = editor.post(upload_url(cast.private), {"job": str(job), "images": file()}, **JSON)  # type: ignore[arg-type]
        assert answer.status_code == 404
    assert not Image.objects.exists()


def test_a_full_disk_is_said_and_the_next_file_is_taken(
    cast: Cast, editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = uuid4()
    with monkeypatch.context() as patch:
        patch.setattr("catalog.storage.save_original", _no_space)
        said = send(editor, cast.private, job, file())
    assert (said["state"], said["code"]) == ("failed", "disk-full")
    assert "Nothing of it was kept" in said["why"]
    assert send(editor, cast.private, job, file())["verdict"] == "stored"


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_without_redis_files_are_stored_and_the_pages_say_what_waits(
    cast: Cast, editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_redis_from(tasks.process_images, monkeypatch)
    said = send(editor, cast.private, uuid4(), file())
    assert (said["verdict"], Image.objects.get().status) == ("stored", "queued")
    for path in (upload_url(cast.private), change_url(cast.private), job_url(said["job"])):
        assert "Redis does not answer" in editor.get(path).content.decode()


# --- Without JavaScript -----------------------------------------------------------------------------------------------


def submit(client: Client, collection: Collection, files: list[SimpleUploadedFile], job: UUID | None = None) -> Any:
    sent = {"job": str(job or uuid4()), "images": files}
    return client.post(upload_url(collection), sent, follow=True, **HTML)  # type: ignore[arg-type]


def test_the_plain_form_takes_many_and_leads_to_the_job(cast: Cast, editor: Client) -> None:
    files = [file(f"{number}.jpg", number=number) for number in range(5)]
    answer = submit(editor, cast.private, [*files, file("empty.png", b""), file("same.jpg", number=0)])
    [job] = IntakeJob.objects.all()
    assert answer.redirect_chain[-1][0] == job_url(job.pk)
    page = answer.content.decode()
    assert "7 of 7 finished" not in page  # five of them wait for a worker
    assert "2 of 7 finished" in page
    assert "already here" in page
    assert "The file is empty." in page


def test_a_double_click_puts_in_once(cast: Cast, editor: Client) -> None:
    job = uuid4()
    submit(editor, cast.private, [file()], job)
    second = submit(editor, cast.private, [file()], job)
    assert "was sent already" in told(second)
    assert second.redirect_chain[-1][0] == job_url(job)
    assert IntakeLine.objects.get().verdict == "stored"


@pytest.mark.parametrize("count", [MOST_AT_ONCE, MOST_AT_ONCE + 1])
def test_a_hundred_files_at_once_and_no_more(cast: Cast, editor: Client, count: int) -> None:
    answer = submit(editor, cast.private, [file(f"{number}.jpg", number=number) for number in range(count)])
    if count == MOST_AT_ONCE:
        assert Image.objects.count() == MOST_AT_ONCE
    else:
        assert "101 files, 100 are the most at once without JavaScript. Nothing was stored" in told(answer)
        assert not IntakeJob.objects.exists()


def test_no_file_and_too_many_bytes_are_said(cast: Cast, editor: Client, settings: Settings) -> None:
    assert "Choose at least one file" in told(submit(editor, cast.private, []))
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 1000}
    assert "Nothing was stored" in told(submit(editor, cast.private, [file("a.jpg", b"x" * 1_100_000)]))
    assert not IntakeJob.objects.exists()


def test_a_session_that_ended_leads_to_the_login_page(cast: Cast) -> None:
    answer = Client().post(upload_url(cast.private), {"job": str(uuid4()), "images": file()}, **JSON)  # type: ignore[arg-type]
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/login/")
    assert not Image.objects.exists()


def test_the_forms_are_protected_against_other_sites(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    staff_client(cast, "editor")
    client.force_login(cast.editor)
    answer = client.post(upload_url(cast.private), {"job": str(uuid4()), "images": file()}, **JSON)  # type: ignore[arg-type]
    assert answer.status_code == 403
    assert not Image.objects.exists()
