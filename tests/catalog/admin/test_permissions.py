"""Everybody at every address of the admin: what one may not do is 403, what one may not see does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from catalog.models import (
    Collection,
    DiscardedFile,
    EmbeddingModel,
    Image,
    IntakeJob,
    NearDuplicate,
    Person,
    PersonMerge,
)
from search.models import EvaluationRun, IndexGeneration
from tests.cast import PEOPLE, Cast, make_face, make_image
from tests.catalog.admin.staff import staff_client
from tests.catalog.api.conftest import cast

__all__ = ["cast"]
pytestmark = pytest.mark.django_db
LOGIN = 302  # to the login page

# What each gets by GET: an address that is not theirs because of its collection is 404, because of its kind 403.
NOBODY_BUT = {"anonymous": LOGIN, "viewer": 403, "editor": 403, "other_editor": 403, "superuser": 200}
EDITORS = {**NOBODY_BUT, "editor": 200, "other_editor": 200}
ITS_EDITOR = {**NOBODY_BUT, "editor": 200, "other_editor": 404}
ITS_EDITOR_ALONE = {**ITS_EDITOR, "viewer": 404}  # asked for the thing before the permission
READ_ONLY = {**NOBODY_BUT, "superuser": 403}


class Things:
    """One of each, in the collection that the editor edits and the other editor does not."""

    def __init__(self, cast: Cast) -> None:
        self.collection = cast.private
        self.image = make_image(cast.private)
        self.person = Person.objects.create(name="Ada")
        self.face = make_face(self.image, self.person)
        self.job = IntakeJob.objects.create(collection=cast.private, source="admin", started_by=cast.editor)
        gone, regions = Person.objects.create(name="A."), [str(self.face.pk)]
        self.merge = PersonMerge.objects.create(kept=self.person, gone=gone, user=None, regions=regions)
        self.model = EmbeddingModel.objects.create(
            pipeline="face", embedder="x", fingerprint="f" * 64, dimension=4, licence="MIT", source="x", state="serving"
        )
        self.generation = IndexGeneration.objects.create(embedding_model=self.model, name="1", engine="exact")
        self.run = EvaluationRun.objects.create(
            embedding_model=self.model, collection=cast.private, what="private", status="failed", reason="Too few."
        )
        self.entry = LogEntry.objects.log_actions(cast.superuser.pk, [self.image], 2, "Looked.", single_object=True)
        self.file = DiscardedFile.objects.create(sha256="f" * 64, name="gone.jpg", kept=self.image)
        self.user = cast.viewer

    def key(self, model: str) -> object:
        named = {
            "intakejob": "job",
            "discardedfile": "file",
            "embeddingmodel": "model",
            "indexgeneration": "generation",
            "evaluationrun": "run",
            "evaluate": "collection",
            "logentry": "entry",
        }
        return getattr(self, named.get(model, model)).pk


# Address (its name in the admin) -> what everybody gets. ``{model}`` of the name is whose key it takes.
PAGES = {
    "catalog_collection_changelist": EDITORS,
    "catalog_collection_add": NOBODY_BUT,
    "catalog_collection_change": ITS_EDITOR,
    "catalog_collection_delete": NOBODY_BUT,
    "catalog_collection_history": ITS_EDITOR_ALONE,
    "catalog_collection_upload": ITS_EDITOR,
    "catalog_image_changelist": EDITORS,
    "catalog_image_add": READ_ONLY,
    "catalog_image_change": ITS_EDITOR,
    "catalog_image_delete": ITS_EDITOR,
    "catalog_image_history": ITS_EDITOR_ALONE,
    "catalog_image_faces": ITS_EDITOR_ALONE,
    "catalog_nearduplicate_changelist": EDITORS,
    "catalog_discardedfile_changelist": EDITORS,
    "catalog_discardedfile_add": READ_ONLY,
    "catalog_discardedfile_change": ITS_EDITOR,
    "catalog_discardedfile_delete": ITS_EDITOR,
    "catalog_discardedfile_history": ITS_EDITOR_ALONE,
    "catalog_person_changelist": EDITORS,
    "catalog_person_change": ITS_EDITOR,
    "catalog_person_history": ITS_EDITOR_ALONE,
    "catalog_intakejob_changelist": EDITORS,
    "catalog_intakejob_add": READ_ONLY,
    "catalog_intakejob_change": ITS_EDITOR,
    "catalog_intakejob_lines": ITS_EDITOR,
    "catalog_intakejob_csv": ITS_EDITOR,
    "catalog_intakejob_addresses": EDITORS,
    "catalog_intakejob_csv_list": EDITORS,
    "catalog_intakejob_history": ITS_EDITOR_ALONE,
    "catalog_embeddingmodel_changelist": NOBODY_BUT,
    "catalog_embeddingmodel_add": READ_ONLY,
    "catalog_embeddingmodel_change": NOBODY_BUT,
    "search_indexgeneration_changelist": NOBODY_BUT,
    "search_indexgeneration_add": READ_ONLY,
    "search_indexgeneration_change": NOBODY_BUT,
    "search_evaluationrun_changelist": EDITORS,
    "search_evaluationrun_add": READ_ONLY,
    "search_evaluationrun_change": ITS_EDITOR,
    "search_evaluationrun_delete": NOBODY_BUT,
    "search_evaluationrun_history": ITS_EDITOR_ALONE,
    "search_evaluate": ITS_EDITOR,
    "search_health": NOBODY_BUT,
    "search_health_state": NOBODY_BUT,
    "search_teach": NOBODY_BUT,
    "search_teach_state": NOBODY_BUT,
    "admin_logentry_changelist": NOBODY_BUT,
    "auth_user_changelist": NOBODY_BUT,
    "auth_user_change": NOBODY_BUT,
    "auth_group_changelist": NOBODY_BUT,
    "knox_authtoken_changelist": NOBODY_BUT,
    "django_celery_beat_periodictask_changelist": NOBODY_BUT,
    "index": {**dict.fromkeys(PEOPLE, 200), "anonymous": LOGIN},
}
KEYED = ("_change", "_delete", "_history", "_upload", "_faces", "_lines", "_csv", "_evaluate")


def address(name: str, things: Things) -> str:
    keyed = name.endswith(KEYED)
    return reverse(f"admin:{name}", args=[things.key(name.split("_")[1])] if keyed else [])


@pytest.mark.parametrize("name", PAGES)
def test_looking(cast: Cast, name: str) -> None:
    path = address(name, Things(cast))
    assert {each: staff_client(cast, each).get(path).status_code for each in PEOPLE} == PAGES[name]


@pytest.mark.parametrize("model", ["collection", "image", "intakejob", "person"])
def test_what_is_not_there_looks_like_what_is_not_yours(cast: Cast, model: str) -> None:
    for key in (uuid4(), "7"):
        path = f"/admin/catalog/{model}/{key}/change/"
        assert {name: staff_client(cast, name).get(path).status_code for name in ("editor", "superuser")} == {
            "editor": 404,
            "superuser": 404,
        }


# --- Changing ---------------------------------------------------------------------------------------------------------


def form_of(collection: Collection, **changes: object) -> dict[str, object]:
    said = {"description": "new", "pipelines": ["image"], "near_duplicates": "warn", "face_search": "staff"}
    return {"name": collection.name, **said, **changes}


def test_changing_a_collection(cast: Cast) -> None:
    found = {}
    for name in PEOPLE:
        Collection.objects.filter(pk=cast.private.pk).update(description="old")
        path = reverse("admin:catalog_collection_change", args=[cast.private.pk])
        found[name] = staff_client(cast, name).post(path, form_of(cast.private)).status_code
        cast.private.refresh_from_db()
        assert (cast.private.description == "new") == (name in ("editor", "superuser"))
    assert found == {"anonymous": 302, "viewer": 403, "editor": 302, "other_editor": 404, "superuser": 302}


def test_an_editor_does_not_decide_who_has_access(cast: Cast) -> None:
    path = reverse("admin:catalog_collection_change", args=[cast.private.pk])
    groups = list(cast.foreign.editors.values_list("pk", flat=True))
    sent = form_of(cast.private, is_public="on", face_search="everyone", editors=groups, viewers=groups)
    assert staff_client(cast, "editor").post(path, sent).status_code == 302
    cast.private.refresh_from_db()
    assert not cast.private.is_public
    assert cast.private.face_search == "staff"
    assert [group.name for group in cast.private.editors.all()] == ["editors"]
    assert [group.name for group in cast.private.viewers.all()] == ["viewers"]


def test_uploading_needs_an_editor_of_the_collection(cast: Cast) -> None:
    path = reverse("admin:catalog_collection_upload", args=[cast.private.pk])
    found = {name: staff_client(cast, name).post(path, {"job": str(uuid4())}).status_code for name in PEOPLE}
    assert found == {"anonymous": 302, "viewer": 403, "editor": 302, "other_editor": 404, "superuser": 302}
    assert not IntakeJob.objects.exists()


def test_choosing_about_near_duplicates(cast: Cast) -> None:
    path, found = reverse("admin:catalog_nearduplicate_changelist"), {}
    for name in PEOPLE:
        noted = NearDuplicate.objects.create(image=make_image(cast.private), other=make_image(cast.private), distance=1)
        found[name] = staff_client(cast, name).post(path, {"one": f"keep {noted.pk}"}).status_code
        noted.refresh_from_db()
        assert (noted.decision == "keep") == (name in ("editor", "superuser"))
    assert found == {"anonymous": 302, "viewer": 403, "editor": 302, "other_editor": 302, "superuser": 302}


def test_a_held_image_is_shown_and_unlinked_by_its_editors(cast: Cast, media: Path) -> None:
    image = make_image(cast.private, version_of=make_image(cast.private))
    for page in ("preview", "unlink"):
        path = reverse(f"admin:catalog_nearduplicate_{page}", args=[image.pk])
        found = {name: staff_client(cast, name).get(path).status_code for name in PEOPLE}
        its = 404 if page == "preview" else 302  # it has no file
        assert found == {"anonymous": LOGIN, "viewer": 403, "editor": its, "other_editor": 404, "superuser": its}
    image.refresh_from_db()
    assert image.version_of is not None


@pytest.mark.parametrize("action", ["publish", "unpublish", "process_again", "delete_images", "set_label", "tag"])
def test_an_action_on_what_is_not_yours_does_nothing(cast: Cast, action: str) -> None:
    image = make_image(cast.foreign, is_published=action != "publish")
    before = Image.objects.values().get(pk=image.pk)
    path = reverse("admin:catalog_image_changelist")
    sent = {"action": action, "_selected_action": str(image.pk), "apply": "1", "label": "x", "tags": "x"}
    staff_client(cast, "editor").post(path, sent)
    assert Image.objects.values().get(pk=image.pk) == before
    assert not image.tags.exists()


def test_nothing_moves_into_a_collection_of_others(cast: Cast) -> None:
    image = make_image(cast.private)
    sent = {"action": "move", "_selected_action": str(image.pk), "apply": "1", "collection": str(cast.foreign.pk)}
    response = staff_client(cast, "editor").post(reverse("admin:catalog_image_changelist"), sent)
    assert b"Select a valid choice" in response.content
    image.refresh_from_db()
    assert image.collection == cast.private


def test_rebuilding_needs_a_superuser(cast: Cast) -> None:
    things = Things(cast)
    path = reverse("admin:search_rebuild", args=[things.model.pk])
    found = {name: staff_client(cast, name).post(path).status_code for name in PEOPLE}
    assert found == {"anonymous": 302, "viewer": 403, "editor": 403, "other_editor": 403, "superuser": 302}
    assert staff_client(cast, "viewer").get(path).status_code == 403


@pytest.mark.parametrize("action", ["pause", "resume", "retry", "cancel"])
def test_what_is_done_with_a_job_needs_an_editor(cast: Cast, action: str) -> None:
    job = IntakeJob.objects.create(collection=cast.private, source="urls")
    path = reverse("admin:catalog_intakejob_do", args=[job.pk, action])
    found = {name: staff_client(cast, name).post(path).status_code for name in PEOPLE}
    assert found == {"anonymous": 302, "viewer": 403, "editor": 302, "other_editor": 404, "superuser": 302}


def test_lists_hold_what_each_may_see(cast: Cast) -> None:
    for collection in (cast.private, cast.public, cast.foreign):
        make_image(collection, title=f"image of {collection}")
        IntakeJob.objects.create(collection=collection, source="admin")
    seen = {"editor": {"private", "public"}, "other_editor": {"foreign"}, "superuser": {"private", "public", "foreign"}}
    for name, expected in seen.items():
        client = staff_client(cast, name)
        for model, shown in (("collection", "name"), ("image", "collection"), ("intakejob", "collection")):
            rows = client.get(reverse(f"admin:catalog_{model}_changelist")).context["cl"].result_list
            assert {str(getattr(row, shown)) for row in rows} == expected, (name, model)


# --- All of them ------------------------------------------------------------------------------------------------------


def _patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from _patterns(each, prefix + str(each.pattern))
        else:
            yield prefix + str(each.pattern), each


def test_no_address_of_the_admin_answers_the_anonymous() -> None:
    """Whatever is added later, too: what it answers to leads to the login page."""
    open_to_all = {"admin/login/", "admin/jsi18n/", "admin/logout/"}
    found = [(path, pattern) for path, pattern in _patterns(get_resolver()) if path.startswith("admin/")]
    assert len(found) > 40
    client = Client()
    for path, pattern in found:
        if path in open_to_all or pattern.name is None:
            continue
        made = _filled(path)
        for method in ("get", "post"):
            response = getattr(client, method)(f"/{made}")
            assert response.status_code in (LOGIN, 405), (method, made)
            assert response.status_code == 405 or response["Location"].startswith("/admin/login/"), (method, made)


def _filled(path: str) -> str:
    """A path with something of the right form for each of its arguments."""
    key = str(uuid4())
    for argument, value in (
        ("<uuid:pk>", key),
        ("<uuid:region>", key),
        ("<path:object_id>", key),
        ("<id>", "7"),
        ("<int:content_type_id>", "7"),
        ("<slug:action>", "x"),
    ):
        path = path.replace(argument, value)
    return path


def test_users_and_tokens_are_no_business_of_editors(cast: Cast) -> None:
    assert User.objects.filter(is_superuser=True).count() == 1
    page = staff_client(cast, "editor").get(reverse("admin:index")).content.decode()
    assert "/admin/catalog/collection/" in page
    assert "/admin/auth/user/" not in page
    assert "/admin/knox/authtoken/" not in page
