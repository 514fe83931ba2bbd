"""The faces of an image in the admin: what its page shows, and the addresses that its buttons send to.

Every action is a POST of plain form fields. A script (static/catalog/admin/faces.js) that accepts JSON gets the new
state of the faces, everybody else the page again with a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin

from catalog.admin.base import NOTHING_DONE, cleaned_text, user_of, uuid_of
from catalog.admin.crops import crop_of
from catalog.admin.lines import image_url
from catalog.curation import faces as curate
from catalog.curation import images as curate_images
from catalog.curation.errors import CurationError, Gone
from catalog.curation.people import check_may_use_name, cleaned_name, people_like
from catalog.models import Embedding, Image, Person, Region
from catalog.overview import WAITING
from catalog.regions import FACE
from catalog.vision.types import Box

State = dict[str, Any]
SHOWN_SIZE = 1280


class FaceUrls(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Mixin for the admin of images. Its page takes ``face_context`` and shows admin/catalog/image/change_form.html."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("people-like/", wrap(require_GET(self.people_view)), name="catalog_image_people"),
            path("<uuid:pk>/faces/", wrap(require_GET(self.faces_view)), name="catalog_image_faces"),
            path("<uuid:pk>/faces/draw/", wrap(_posted(self.draw_view)), name="catalog_image_draw"),
            path("<uuid:pk>/process/", wrap(_posted(self.process_view)), name="catalog_image_process"),
            path(
                "<uuid:pk>/faces/<uuid:region>/<slug:action>/",
                wrap(_posted(self.face_view)),
                name="catalog_image_face",
            ),
        ]
        return [*own, *super().get_urls()]

    def face_context(self, request: HttpRequest, image: Image) -> dict[str, Any]:
        """What the change page's template needs beside what it has."""
        state, rows = _state_and_rows(image)
        return {
            "faces": {
                "state": state,
                "rows": rows,
                "may_change": self.has_change_permission(request, image),
                "state_url": reverse("admin:catalog_image_faces", args=[image.pk]),
                "draw_url": reverse("admin:catalog_image_draw", args=[image.pk]),
                "process_url": reverse("admin:catalog_image_process", args=[image.pk]),
                "people_url": reverse("admin:catalog_image_people"),
                "login_url": reverse("admin:login"),
            }
        }

    def faces_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        return JsonResponse(face_state(self._image(request, pk)))

    def people_view(self, request: HttpRequest) -> HttpResponse:
        """Names that have this text in them, for the field that names a face."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        text = cleaned_text(request.GET.get("q", ""))
        people = people_like(text, user_of(request)) if text else []
        return JsonResponse({"people": [person.name for person in people]})

    def draw_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        image = self._image(request, pk)

        def draw(user: User) -> str:
            return str(curate.draw_region(image, _box(request), user).pk)

        return _answer(request, image, draw, "The face was drawn. It can be searched once the image is processed.")

    def process_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        image = self._image(request, pk)

        def process(user: User) -> None:
            curate_images.process_again(Image.objects.filter(pk=image.pk), user)

        return _answer(request, image, process, "The image waits to be processed again.")

    def face_view(self, request: HttpRequest, pk: UUID, region: UUID, action: str) -> HttpResponse:
        if action not in ACTIONS:
            raise Http404
        image = self._image(request, pk)
        face = Region.objects.filter(image=image, pipeline=FACE, pk=region).select_related("image", "person").first()
        act, done = ACTIONS[action]

        def curated(user: User) -> None:
            if face is None:
                raise Gone("This face is gone: somebody deleted it meanwhile, or it was not found again.")
            act(request, face, user)

        return _answer(request, image, curated, done)

    def _image(self, request: HttpRequest, pk: UUID) -> Image:
        """Raises Http404 for an image that this user may not edit, as if it did not exist."""
        image = get_object_or_404(Image.objects.editable_by(user_of(request)).select_related("collection"), pk=pk)
        if not self.has_change_permission(request, image):
            raise PermissionDenied
        return image


# --- What the page shows ----------------------------------------------------------------------------------------------


def face_state(image: Image) -> State:
    """The faces of an image from left to right, its status in words, and where each embedding comes from."""
    return _state_and_rows(image)[0]


def _state_and_rows(image: Image) -> tuple[State, list[dict[str, Any]]]:
    """The state, and for a page without scripts each face with its crop and the addresses of its buttons."""
    regions = Region.objects.filter(image=image, pipeline=FACE).select_related("person")
    rows = sorted(regions, key=lambda region: (region.x, region.y))
    for row in rows:
        row.image = image
    embeddings = list(
        Embedding.objects.filter(region__image=image).select_related("region", "model").defer("vector").order_by("id")
    )
    embedded = {each.region_id for each in embeddings}
    faces = [_face(row, number, len(rows), row.pk in embedded) for number, row in enumerate(rows, 1)]
    state = {
        "status": image.status,
        "words": _status_words(image),
        "working": image.status in WAITING,
        "failed": image.status == Image.Status.FAILED,
        "runs": FACE in image.collection.pipelines,
        "width": image.width,
        "height": image.height,
        "rendition": _rendition(image),
        "faces": faces,
        "embeddings": [_source(each, rows) for each in embeddings],
    }
    return state, [
        {
            "face": face,
            "crop": crop_of(row),
            "urls": {action: face["url"].replace("ACTION", action) for action in ACTIONS},
        }
        for face, row in zip(faces, rows, strict=True)
    ]


def _rendition(image: Image) -> str:
    """Its address; empty while none was made."""
    if image.processed_at is None and image.status != Image.Status.READY:
        return ""
    return reverse("image-rendition", kwargs={"pk": image.pk, "size": SHOWN_SIZE})


def _status_words(image: Image) -> str:
    if image.status == Image.Status.FAILED:
        return f"Processing failed. {image.reason}"
    if image.status == Image.Status.QUEUED:
        return image.reason or "It waits to be processed."
    return {Image.Status.PROCESSING: "It is being processed.", Image.Status.HELD: "It is held back."}.get(
        Image.Status(image.status), ""
    )


def _face(region: Region, number: int, count: int, embedded: bool) -> State:
    person = region.person
    return {
        "id": str(region.pk),
        "title": f"Face {number} of {count}",
        "x": region.x,
        "y": region.y,
        "width": region.width,
        "height": region.height,
        "found": _found(region),
        "score": "" if region.score is None else f"{region.score:.0%}",
        "person": str(person.pk) if person else "",
        "name": person.name if person else "",
        "person_url": reverse("admin:catalog_person_change", args=[person.pk]) if person else "",
        "dismissed": region.dismissed,
        "embedded": embedded,
        "url": reverse("admin:catalog_image_face", args=[region.image_id, region.pk, "ACTION"]),
        "suggestions_url": reverse("face-suggestions", args=[region.pk]),
    }


def _found(region: Region) -> str:
    if region.origin == Region.Origin.PERSON:
        return "drawn by hand"
    return "found by the detector" if region.score is None else f"found by the detector, {region.score:.0%} sure"


def _source(embedding: Embedding, faces: list[Region]) -> list[str]:
    """Pipeline, region, embedding model, fingerprint, dimension, date."""
    model, region = embedding.model, embedding.region
    number = next((number for number, face in enumerate(faces, 1) if face.pk == region.pk), None)
    return [
        region.pipeline,
        f"face {number}" if number else "the whole image",
        f"{model.embedder} ({model.state})",
        model.fingerprint[:12],
        str(embedding.dimension),
        date_format(embedding.created_at, "DATETIME_FORMAT"),
    ]


# --- What the buttons do ----------------------------------------------------------------------------------------------


def _name(request: HttpRequest, face: Region, user: User) -> None:
    """``person``: somebody who was suggested, else ``name``. ``seen``: the key of whom the page showed."""
    expected = _expected(request)
    if request.POST.get("person"):
        curate.name_face(face, _person(request.POST["person"], user), user, expected)
        return
    name = cleaned_name(request.POST.get("name", ""))
    check_may_use_name(name, user)
    curate.name_face(face, name, user, expected)


def _reject(request: HttpRequest, face: Region, user: User) -> None:
    """``person``: somebody who was suggested, else whom the page showed (``seen``), never who is named by now."""
    expected = _expected(request)
    if request.POST.get("person"):
        person = _person(request.POST["person"], user)
    elif not isinstance(expected, UUID):
        raise CurationError("Nobody was named here when you looked, so there is nobody whom it is not. Look again.")
    elif face.person is None:
        person = _person(str(expected), user)
    else:
        curate.check_seen(face, expected)
        person = face.person
    curate.reject_person(face, person, user, expected)


ACTIONS: dict[str, tuple[Callable[[HttpRequest, Region, User], object], str]] = {
    "name": (_name, "The name is saved."),
    "unname": (
        lambda request, face, user: curate.unname_face(face, user, _expected(request)),
        "The name was taken off.",
    ),
    "reject": (_reject, "Remembered: this face is not this person."),
    "dismiss": (lambda _, face, user: curate.dismiss_region(face, user), "Remembered: this is not a face."),
    "restore": (lambda _, face, user: curate.restore_region(face, user), "It is a face again."),
    "move": (
        lambda request, face, user: curate.move_region(face, _box(request), user),
        "The box was moved. It can be searched once the image is processed.",
    ),
    "delete": (
        lambda request, face, user: curate.delete_region(face, user, _expected(request)),
        "The face was deleted.",
    ),
}


def _person(key: str, user: User) -> Person:
    """Of those whom the user may see, merged ones as who they are now. Raises Gone."""
    person = Person.objects.filter(pk=uuid_of(key)).select_related("merged_into").first()
    if person is None or not Person.objects.visible_to(user).filter(pk=person.current().pk).exists():
        raise Gone("This person does not exist any more. Look again.")
    return person.current()


def _expected(request: HttpRequest) -> curate.Expected:
    """The key of whom the page showed as named here. Raises CurationError."""
    seen = request.POST.get("seen")
    if seen is None:
        return ...
    try:
        return UUID(seen) if seen else None
    except ValueError as error:
        raise CurationError("This page does not say who was named here. Reload it, then try again.") from error


def _box(request: HttpRequest) -> Box:
    """Raises CurationError."""
    try:
        return Box(*(float(request.POST[side]) for side in ("x", "y", "width", "height")))
    except (KeyError, ValueError) as error:
        raise CurationError("The box needs four numbers: left, top, width and height, in pixels.") from error


def _posted(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Whoever comes here otherwise (from logging in again after the session ended) gets the image's page."""

    def posted_or_page(request: HttpRequest, pk: UUID, **rest: Any) -> HttpResponse:
        if request.method != "POST":
            messages.warning(request, NOTHING_DONE)
            return redirect(image_url(pk))
        return view(request, pk, **rest)

    return posted_or_page


def _answer(request: HttpRequest, image: Image, act: Callable[[User], str | None], done: str) -> HttpResponse:
    """Do it, and tell the script or the person. ``act`` may return the key of a region that it made."""
    made, error = None, ""
    try:
        made = act(user_of(request))
    except CurationError as refused:
        error = str(refused)
    if not request.accepts("text/html"):
        image = Image.objects.select_related("collection").filter(pk=image.pk).first() or image
        state = {**face_state(image), "made": made, "error": error, "message": "" if error else done}
        return JsonResponse(state, status=409 if error else 200)
    (messages.error if error else messages.success)(request, error or done)
    return redirect(f"{image_url(image.pk)}#faces")
