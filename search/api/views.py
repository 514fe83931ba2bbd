"""The door of /api/v1/search/ to search.querying."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle
from rest_framework.views import APIView

from catalog.api.bodies import body_of, content_of
from catalog.api.decoding import decoding_slot
from catalog.api.lookups import by_id_or_name
from catalog.api.parsers import BoundedJSONParser
from catalog.api.schema import problems
from catalog.models import Collection, Image, Region
from catalog.querysets import Viewer
from search.api.serializers import AnswerSerializer, ExplainedAnswerSerializer, SearchForm
from search.querying import Answer, SearchOptions, search_by_image, search_by_region, search_by_stored_image


class AnonymousSearchThrottle(AnonRateThrottle):
    """Searches cost far more than reading, so those who are not logged in get fewer of them."""

    scope = "search"


class SearchView(APIView):
    permission_classes = (AllowAny,)
    parser_classes = (MultiPartParser, BoundedJSONParser)
    throttle_classes = (AnonRateThrottle, UserRateThrottle, AnonymousSearchThrottle)

    @extend_schema(
        operation_id="search",
        tags=["search"],
        summary="Find images by an image",
        description=(
            "Send a file as multipart `image`, or JSON with the id of a stored `region` or `image_id`, and options "
            "beside it (in the body, not in the address). Nobody has to log in to search public collections. "
            "A file is kept in memory while it is searched with, and never stored."
        ),
        request={"multipart/form-data": SearchForm, "application/json": SearchForm},
        responses={200: ExplainedAnswerSerializer, **problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        if request.query_params:
            raise ValidationError({name: ["Send it in the body, not in the address."] for name in request.query_params})
        form = SearchForm(data=body_of(request))
        form.is_valid(raise_exception=True)
        explain = form.validated_data["explain"]
        if explain and not request.user.is_staff:
            raise PermissionDenied("Only staff are told how an answer was found. Search without explain.")
        answer = _search(form.validated_data, request.user)
        shape = ExplainedAnswerSerializer if explain else AnswerSerializer
        return Response(shape(answer, context={"request": request}).data)


def _search(asked: dict[str, Any], viewer: Viewer) -> Answer:
    options = _options(asked, viewer)
    if "image" in asked:
        with decoding_slot():
            return search_by_image(content_of(asked["image"]), asked["image"].name, options)
    if "region" in asked:
        regions = Region.objects.visible_to(viewer).filter(dismissed=False).select_related("image")
        return search_by_region(get_object_or_404(regions, pk=asked["region"]), options)
    return search_by_stored_image(get_object_or_404(Image.objects.visible_to(viewer), pk=asked["image_id"]), options)


def _options(asked: dict[str, Any], viewer: Viewer) -> SearchOptions:
    return SearchOptions(
        viewer=viewer,
        pipeline=asked.get("pipeline"),
        k=asked["k"],
        face=asked.get("face"),
        collections=_collections(asked["collection"], viewer) if "collection" in asked else None,
        beyond_near=asked["beyond_near"],
    )


def _collections(names: list[str], viewer: Viewer) -> tuple[Collection, ...]:
    visible = Collection.objects.visible_to(viewer)
    return tuple(by_id_or_name(visible, name) for name in names)
