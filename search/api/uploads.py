"""What the API's search and the page have in common: how often somebody may search, one file, a turn at decoding."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, UserRateThrottle

from catalog.api.bodies import UPLOAD_REFUSED, content_of
from catalog.api.decoding import decoding_slot
from search.api.views import SearchView

__all__ = ["LOOKING", "UPLOADING", "check_throttles", "content_of", "decoding_slot", "uploaded_image"]

FIELD = "image"


class AnonymousPageThrottle(AnonRateThrottle):
    """Pages of results, of those who are not signed in: one search is several of them, by scrolling and by filters."""

    scope = "page"


UPLOADING = SearchView.throttle_classes  # a photo on the page is counted with the searches of the API
LOOKING = (AnonymousPageThrottle, UserRateThrottle)


def check_throttles(request: HttpRequest, throttles: Iterable[type[BaseThrottle]]) -> None:
    """Counts the request for each of them. Raises Throttled."""
    for throttle in (throttle_class() for throttle_class in throttles):
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # it reads META and user, no more
            raise Throttled(throttle.wait())


def uploaded_image(request: HttpRequest) -> UploadedFile[bytes]:
    """The one file of a form. Raises ImageRefused where it was too large to be kept, ValidationError in words."""
    files = request.FILES.getlist(FIELD)
    refusal = request.META.get(UPLOAD_REFUSED)
    if refusal is not None:
        raise refusal
    if not files:
        raise ValidationError(_("No photo came with that. Choose one, then search."))
    if len(files) > 1:
        raise ValidationError(_("These are several photos. Search with one at a time."))
    return files[0]
