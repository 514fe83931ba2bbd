"""Files of images, each after asking who may see it. No storage has a public address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import IO

from django.core.files.storage import Storage
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import quote_etag
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotAuthenticated, NotFound
from rest_framework.generics import get_object_or_404
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from catalog import storage
from catalog.api.lookups import check_may_edit
from catalog.api.schema import problems
from catalog.exceptions import StorageUnavailable
from catalog.models import Image
from catalog.vision.formats import FORMATS

RENDITION_SECONDS = 3600  # a browser keeps a rendition for so long without asking again
_UNSAFE = re.compile(r"[^\w.() -]+")
_NAME_LENGTH = 150


class AnyMediaType(DefaultContentNegotiation):
    """A file is what it is: `Accept: image/webp` is no reason to answer 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class RenditionView(APIView):
    content_negotiation_class = AnyMediaType
    throttle_classes = ()  # a page of results shows up to a hundred

    @extend_schema(
        operation_id="image_rendition",
        tags=["images"],
        summary="A small copy of an image",
        description="WebP, oriented, without metadata, at most 320 or 1280 pixels on its longest side.",
        responses={(200, "image/webp"): OpenApiTypes.BINARY, 304: None, **problems(401, 404, 503)},
    )
    def get(self, request: Request, pk: str, size: int) -> HttpResponseBase:
        image = get_object_or_404(Image.objects.visible_to(request.user), pk=pk)
        if size not in storage.RENDITION_SIZES:
            raise NotFound(f"There are renditions of {' and '.join(map(str, storage.RENDITION_SIZES))} pixels only.")
        etag = quote_etag(f"{image.sha256}-{size}")
        response = get_conditional_response(request._request, etag=etag) or _rendition(image, size)
        response.headers["ETag"] = etag
        patch_cache_control(response, private=True, max_age=RENDITION_SECONDS)
        patch_vary_headers(response, ["Cookie", "Authorization"])
        return response


class OriginalView(APIView):
    content_negotiation_class = AnyMediaType

    @extend_schema(
        operation_id="image_original",
        tags=["images"],
        summary="The file as it was uploaded",
        description="For editors of its collection.",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, **problems(401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, pk: str) -> HttpResponseBase:
        image = get_object_or_404(Image.objects.visible_to(request.user), pk=pk)
        if not request.user.is_authenticated:
            raise NotAuthenticated
        check_may_edit(request.user, image.collection_id)
        key = storage.original_key(image.pk, image.format)
        file = _open(storage.originals(), key, "The file is missing from the storage. Put it back from a backup.")
        kind = FORMATS[image.format]
        response = FileResponse(file, as_attachment=True, filename=safe_name(image), content_type=kind.mime_type)
        patch_cache_control(response, private=True, no_store=True)
        return response


def _rendition(image: Image, size: int) -> FileResponse:
    reason = f"There is no file yet: the image is {image.status}. Try again when its status is ready."
    file = _open(storage.renditions(), storage.rendition_key(image.pk, size), reason)
    return FileResponse(file, content_type="image/webp")


def safe_name(image: Image) -> str:
    """The uploader's name without what a file system or a header could misread, with the extension of the content."""
    stem = _UNSAFE.sub("_", PurePath(image.original_name).stem).strip(". ")[:_NAME_LENGTH]
    return (stem or str(image.pk)) + FORMATS[image.format].extension


def _open(files: Storage, key: str, when_missing: str) -> IO[bytes]:
    try:
        return storage.open_file(files, key)
    except FileNotFoundError as error:
        raise NotFound(when_missing) from error
    except OSError as error:
        raise StorageUnavailable(
            "The file is there and cannot be read. Try again later; the server's log knows why."
        ) from error
