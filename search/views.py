"""The page: from a photo, a kept query, or a stored image to its results. Errors get their pages from visearch_site."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_safe

from catalog.exceptions import NoServingModel
from catalog.models import Collection, Image, Region
from catalog.regions import FACE
from search import query_tokens
from search.addresses import Filters, Place
from search.api.uploads import LOOKING, UPLOADING, check_throttles, content_of, decoding_slot, uploaded_image
from search.exceptions import FacesNotAllowed, NothingToSearchWith, QueryOutdated
from search.forms import filters_of
from search.labels import frequent_labels
from search.looking import look_at
from search.marks import query_frame, stored_frame
from search.policy import PAGE, PAGE_WITH_PREVIEW, under
from search.querying import (
    IMAGE,
    Answer,
    Query,
    SearchOptions,
    best_region,
    best_vector,
    search_by_query,
    search_by_region,
    stored_regions,
    waits_for_a_model,
)
from search.samples import sample_images
from search.shown import name_of, results_of, web_address

Context = dict[str, Any]
for_its_viewer = cache_control(private=True, no_cache=True)  # who signs out, or loses a collection, sees it no more


@gzip_page
@for_its_viewer
@require_safe
@under(PAGE)
def page(request: HttpRequest) -> HttpResponse:
    filters = filters_of(request.GET, request.user)
    samples = [(image, name_of(image)) for image in sample_images()]
    context = {"samples": samples, **_choices(request, filters), "labels": frequent_labels(request.user)}
    return render(request, "search/page.html", context)


@gzip_page
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@under(PAGE_WITH_PREVIEW)
def upload(request: HttpRequest) -> HttpResponse:
    """The whole result of a photo in one answer. Raises what visearch_site.errors describes."""
    if request.method != "POST":
        return redirect("page")
    check_throttles(request, UPLOADING)
    filters = filters_of(request.POST, request.user)
    photo = uploaded_image(request)
    with decoding_slot():
        looked = look_at(content_of(photo), photo.name or "", request.user)
    token = query_tokens.keep(looked.query)
    try:
        context = _query_context(request, looked.query, filters, token)
    except QueryOutdated:  # another model took over since the photo was looked at
        return _forgotten(request, filters, "outdated", 410)
    shown = {"preview": looked.preview, "is_photo": True}
    here = {"here": context["place"].href()} if context["place"] else {}
    return render(request, "search/results.html", {**context, **shown, **here})


@gzip_page
@never_cache
@require_safe
@under(PAGE)
def kept(request: HttpRequest, token: str) -> HttpResponse:
    check_throttles(request, LOOKING)
    filters = filters_of(request.GET, request.user)
    try:
        context = _query_context(request, query_tokens.recall(token), filters, token)
    except query_tokens.QueryForgotten:
        return _forgotten(request, filters, "forgotten", 404)
    except query_tokens.MemoryAway:
        return _forgotten(request, filters, "away", 503)
    except QueryOutdated:
        return _forgotten(request, filters, "outdated", 410)
    return render(request, "search/results.html", {**context, "is_photo": True})


@gzip_page
@for_its_viewer
@require_safe
@under(PAGE)
def by_image(request: HttpRequest, pk: UUID) -> HttpResponse:
    check_throttles(request, LOOKING)
    image = _image(request, pk)
    return _stored(request, image, reverse("search-image", args=[pk]), None)


@gzip_page
@for_its_viewer
@require_safe
@under(PAGE)
def by_region(request: HttpRequest, pk: UUID) -> HttpResponse:
    check_throttles(request, LOOKING)
    regions = Region.objects.visible_to(request.user).filter(dismissed=False).select_related("image__collection")
    region = get_object_or_404(regions, pk=pk)
    return _stored(request, region.image, reverse("search-region", args=[pk]), region)


@gzip_page
@for_its_viewer
@require_safe
@under(PAGE)
def image_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    check_throttles(request, LOOKING)
    image = _image(request, pk)
    context = _stored_context(request, image, Place(reverse("search-image", args=[pk]), Filters()), None)
    links = {"link": web_address(image.link), "source": web_address(image.source_url)}
    return render(request, "search/image.html", {**context, **links, "tags": list(image.tags.names())})


def _image(request: HttpRequest, pk: UUID) -> Image:
    return get_object_or_404(Image.objects.visible_to(request.user).select_related("collection"), pk=pk)


def _stored(request: HttpRequest, image: Image, path: str, region: Region | None) -> HttpResponse:
    place = Place(path, filters_of(request.GET, request.user))
    context = {**_choices(request, place.filters), **_stored_context(request, image, place, region)}
    return render(request, "search/results.html", context)


def _stored_context(request: HttpRequest, image: Image, place: Place, chosen: Region | None) -> Context:
    filters = place.filters
    options = filters.options(request.user)
    regions = stored_regions(image, request.user)
    chosen = chosen or best_region(regions, options)
    context: Context = {"image": image, "name": name_of(image), "place": place, "filters": filters}
    context["frame"] = stored_frame(image, regions, chosen, filters)
    try:
        if chosen is None:
            return {**context, "problem": "not-ready"}
        answer = search_by_region(chosen, options)
    except FacesNotAllowed:
        return {**context, "problem": "faces"}
    except (NothingToSearchWith, NoServingModel):  # the image itself can be shown all the same
        return {**context, "problem": "not-ready"}
    return {**context, **_results(answer, place, filters)}


def _query_context(request: HttpRequest, query: Query, filters: Filters, token: str | None) -> Context:
    options = filters.options(request.user)
    region = filters.region
    number = region if region is not None and region < len(query.vectors) else best_vector(query, options)
    place = Place(reverse("search-kept", args=[token]), filters) if token else None
    context: Context = {
        **_choices(request, filters),
        "place": place,
        "frame": query_frame(query, number, place),
        **_without_faces(query, number),
        "forgets": not token,
    }
    answer = _answer(query, number, options)
    if answer is None:
        return {**context, "problem": "not-now" if waits_for_a_model(query, options) else "faces"}
    return {**context, **_results(answer, place, filters)}


def _without_faces(query: Query, number: int | None) -> Context:
    """Why the whole image was searched with, where it was."""
    if number is not None and query.vectors[number].region.pipeline != IMAGE:
        return {}
    found = {each.region.pipeline for each in query.vectors}
    return {"no_face": FACE in query.looked_for and FACE not in found, "no_faces_now": FACE in query.unavailable}


def _results(answer: Answer, place: Place | None, filters: Filters) -> Context:
    results = results_of(answer, place, filters)
    return {"results": results, "labels": results.labels}


def _answer(query: Query, number: int | None, options: SearchOptions) -> Answer | None:
    """None where this viewer may search with none of it in these collections."""
    if number is None:
        return None
    try:
        return search_by_query(query, number, options)
    except FacesNotAllowed:
        return None


def _choices(request: HttpRequest, filters: Filters) -> Context:
    names = Collection.objects.visible_to(request.user).values_list("name", flat=True)
    return {"filters": filters, "collections": list(names)}


def _forgotten(request: HttpRequest, filters: Filters, why: str, status: int) -> HttpResponse:
    return render(request, "search/forgotten.html", {"why": why, **_choices(request, filters)}, status=status)
