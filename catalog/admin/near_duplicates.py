"""Near duplicates that wait for a choice: both images side by side, and what becomes of them.

Plain forms: every choice is a POST, also of several at once; those that delete an image are asked about on a page in
between. Works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode

from catalog.admin.base import NOTHING_DONE, CatalogAdmin, user_of, uuid_of
from catalog.admin.lines import choices_url, image_url, thumbnail_url
from catalog.api.decoding import Busy, spare_slot
from catalog.curation.duplicates import DELETING, Choice, decide_all, unlink_version
from catalog.curation.errors import CurationError
from catalog.duplicates.holding import open_choices
from catalog.duplicates.of_lines import choices_about
from catalog.duplicates.previews import preview
from catalog.duplicates.words import likeness
from catalog.exceptions import DecoderUnavailable, ImageRefused
from catalog.models import Collection, Image, NearDuplicate
from catalog.records import moment

PER_PAGE = 20
SHOWN_REFUSALS = 10
MOST_COUNTED = 1000  # in the sidebar, of every page
SHOWN_LINKS = 12

# What a button says, and what it does in a sentence below it. Those of several at once take the same words.
WORDS = {
    Choice.KEEP: ("Keep both", "They stay what they are, and nobody is asked again."),
    Choice.VERSION: ("Link as a version", "Both stay. The new one is shown as a version of the other."),
    Choice.REPLACE: (
        "Replace the older one",
        "The new one takes over title, label, links and tags. The older one is deleted.",
    ),
    Choice.DISCARD: ("Discard the new one", "It is deleted, and the older one stays as it is."),
}


@admin.register(NearDuplicate)
class NearDuplicateAdmin(CatalogAdmin):
    """Whoever may change images chooses; whoever may also delete them chooses what deletes one."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.choices_view), name="catalog_nearduplicate_changelist"),
            path("image/<uuid:pk>/", wrap(self.preview_view), name="catalog_nearduplicate_preview"),
            path("image/<uuid:pk>/unlink/", wrap(self.unlink_view), name="catalog_nearduplicate_unlink"),
        ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("catalog.change_image"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    has_change_permission = has_view_permission

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def choices_view(self, request: HttpRequest) -> HttpResponse:
        """GET: a page of open choices. POST: ``one`` is choice and key of a button, ``all`` a choice for ``noted``."""
        self._check(request)
        if request.method == "POST":
            return self._choose(request)
        collection = _collection(request)
        page = Paginator(_open(request, collection), PER_PAGE).get_page(request.GET.get("page"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Near duplicates",
            "opts": self.opts,
            "page": page,
            "pairs": [_pair(noted) for noted in page.object_list],
            "collections": Collection.objects.editable_by(request.user).order_by("name"),
            "chosen": collection,
            "choices": _buttons(request),
            "same_page": _address(request),
            "narrowed": urlencode(_narrowed(request)),
            "narrowed_to": next((name for name in ("job", "image") if name in _narrowed(request)), ""),
        }
        return TemplateResponse(request, "admin/catalog/near_duplicates/list.html", context)

    def preview_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """A small copy of an image that has none, made anew each time."""
        self._check(request)
        image = get_object_or_404(Image.objects.editable_by(request.user), pk=pk)
        try:
            with spare_slot():
                content = preview(image)
        except (Busy, DecoderUnavailable) as error:
            return HttpResponse(str(error), status=503, content_type="text/plain", headers={"Retry-After": "2"})
        except (ImageRefused, OSError) as error:
            raise Http404("Its file cannot be read or shown.") from error
        return HttpResponse(content, content_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    def unlink_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: an image is no version of another one any more."""
        self._check(request)
        image = get_object_or_404(Image.objects.editable_by(request.user), pk=pk)
        if request.method == "POST":
            try:
                unlink_version(image, user_of(request))
                messages.success(request, f"{image} is an image of its own again.")
            except CurationError as error:
                messages.error(request, str(error))
        return HttpResponseRedirect(image_url(pk))

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _choose(self, request: HttpRequest) -> HttpResponse:
        """Do it, or ask first, and show the same page again."""
        choice, keys = _chosen(request)
        if choice is None or not keys:
            messages.warning(request, "Tick at least one pair first." if choice else NOTHING_DONE)
            return HttpResponseRedirect(_address(request))
        if choice in DELETING and not request.user.has_perm("catalog.delete_image"):
            raise PermissionDenied
        noted = list(open_choices(user_of(request)).filter(pk__in=keys))
        if choice in DELETING and noted and "apply" not in request.POST:
            return self._ask(request, choice, noted)
        done, refused = decide_all(noted, choice, user_of(request))
        _say(request, choice, done, refused, len(keys) - len(noted))
        return HttpResponseRedirect(_address(request))

    def _ask(self, request: HttpRequest, choice: Choice, noted: Sequence[NearDuplicate]) -> TemplateResponse:
        """The page between choosing and deleting."""
        going = {each.pk: each for each in (one.image if choice == Choice.DISCARD else one.other for one in noted)}
        context = {
            **self.admin_site.each_context(request),
            "title": WORDS[choice][0],
            "opts": self.opts,
            "choice": choice,
            "replaces": choice == Choice.REPLACE,
            "count": len(going),
            "previews": [{"url": _shown(image), "name": str(image)} for image in list(going.values())[:SHOWN_LINKS]],
            "keys": [each.pk for each in noted],
            "same_page": _address(request),
        }
        return TemplateResponse(request, "admin/catalog/near_duplicates/ask.html", context)


def count_open(request: HttpRequest) -> str:
    """For the sidebar; empty where there is nothing to choose. Asked once a request."""
    if not hasattr(request, "_visearch_open_choices"):
        count = open_choices(user_of(request)).order_by()[:MOST_COUNTED].count()
        words = f"{MOST_COUNTED - 1}+" if count == MOST_COUNTED else str(count or "")
        request._visearch_open_choices = words  # type: ignore[attr-defined]
    return str(request._visearch_open_choices)  # type: ignore[attr-defined]


def beside_image(request: HttpRequest, image: Image) -> dict[str, Any]:
    """What an image's page says of those that it looks like, and of versions."""
    noted = open_choices(user_of(request))
    alike = [(each.other, each) for each in noted.filter(image=image)[:SHOWN_LINKS]]
    alike += [(each.image, each) for each in noted.filter(other=image)[:SHOWN_LINKS]]
    mine = Image.objects.editable_by(request.user)
    return {
        "alike": [
            {"name": str(one), "url": image_url(one.pk), "words": likeness(each.distance, each.is_mirrored)}
            for one, each in alike
        ],
        "version_of": mine.filter(pk=image.version_of_id).first() if image.version_of_id else None,
        "versions": list(mine.filter(version_of=image).order_by("-id")[:SHOWN_LINKS]),
        "choices_url": choices_url(user_of(request), collection=image.collection_id),
    }


# --- What the page shows ----------------------------------------------------------------------------------------------


def _open(request: HttpRequest, collection: Collection | None) -> QuerySet[NearDuplicate]:
    """Oldest first, so that nothing shifts while somebody works through them; those of one image lie together."""
    noted, narrowed = open_choices(user_of(request)), _narrowed(request)
    if collection:
        noted = noted.filter(image__collection=collection)
    if "job" in narrowed:
        noted = choices_about(noted, uuid_of(narrowed["job"]))
    if "image" in narrowed:
        noted = noted.filter(image=uuid_of(narrowed["image"]))
    return noted.order_by("image_id", "distance", "id")


def _collection(request: HttpRequest) -> Collection | None:
    """Raises Http404 for one that is not theirs."""
    key = request.GET.get("collection", "")
    return get_object_or_404(Collection.objects.editable_by(request.user), pk=uuid_of(key)) if key else None


def _pair(noted: NearDuplicate) -> dict[str, Any]:
    return {
        "key": noted.pk,
        "words": likeness(noted.distance, noted.is_mirrored),
        "collection": noted.image.collection,
        "sides": [_side("The new one", noted.image), _side("Here before", noted.other)],
        "name": f"{noted.image} and {noted.other}",
    }


def _side(caption: str, image: Image) -> dict[str, Any]:
    waits = image.status == Image.Status.HELD
    return {
        "caption": caption,
        "name": str(image),
        "url": image_url(image.pk),
        "shown": _shown(image),
        "facts": [
            ("size", f"{image.width} x {image.height} pixels"),
            ("file", f"{image.format}, {filesizeformat(image.byte_size)}"),
            ("put in", moment(image.created_at)),
            ("label", image.label),
            ("state", "held: nothing has run on it yet" if waits else "" if image.is_findable else image.status),
            ("published", "" if image.is_published else "no"),
        ],
    }


def _shown(image: Image) -> str:
    return thumbnail_url(image) or reverse("admin:catalog_nearduplicate_preview", args=[image.pk])


def _buttons(request: HttpRequest) -> list[dict[str, Any]]:
    may_delete = request.user.has_perm("catalog.delete_image")
    return [
        {"value": choice.value, "title": title, "explained": explained, "danger": choice in DELETING}
        for choice, (title, explained) in WORDS.items()
        if may_delete or choice not in DELETING
    ]


# --- What was sent ----------------------------------------------------------------------------------------------------


def _chosen(request: HttpRequest) -> tuple[Choice | None, list[UUID]]:
    """The choice, None where there is no such one, and the keys of what it is for."""
    value, _, key = request.POST.get("one", "").partition(" ")
    keys = [key] if key else request.POST.getlist("noted")
    name = value or request.POST.get("all", "")
    return (Choice(name) if name in Choice else None), [uuid_of(each) for each in dict.fromkeys(keys)]


def _say(
    request: HttpRequest, choice: Choice, done: int, refused: Sequence[tuple[NearDuplicate, str]], not_open: int
) -> None:
    if done:
        messages.success(request, f"{WORDS[choice][0]}: done for {'1 pair' if done == 1 else f'{done} pairs'}.")
    if not_open:
        what = "1 pair was" if not_open == 1 else f"{not_open} pairs were"
        messages.warning(request, f"{what} left alone: somebody has decided already, or one of the images is gone.")
    for noted, reason in refused[:SHOWN_REFUSALS]:
        messages.error(request, f"{noted.image} and {noted.other}: {reason}")
    if len(refused) > SHOWN_REFUSALS:
        messages.error(request, f"{len(refused) - SHOWN_REFUSALS} more were left alone for such reasons.")


def _url() -> str:
    return reverse("admin:catalog_nearduplicate_changelist")


def _narrowed(request: HttpRequest) -> dict[str, str]:
    """What the list is narrowed by, as the address says it."""
    return {name: request.GET[name] for name in ("collection", "job", "image") if request.GET.get(name)}


def _address(request: HttpRequest) -> str:
    """The same page of the same list."""
    kept = {**_narrowed(request), **({"page": request.GET["page"]} if request.GET.get("page") else {})}
    return f"{_url()}?{urlencode(kept)}" if kept else _url()
