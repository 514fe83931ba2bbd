"""Every error of the API as application/problem+json (RFC 9457): one table of stable codes, one shape.

docs/api.md explains the codes to clients; a test compares the two.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views import defaults
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from catalog.api.decoding import Busy
from catalog.api.exceptions import NotStored
from catalog.api.parsers import BodyTooLarge
from catalog.api.schema import PROBLEM_JSON
from catalog.exceptions import ImageRefused, ModelUnavailable, NoServingModel, StorageUnavailable
from search.exceptions import SearchError

logger = logging.getLogger(__name__)

SOON, LATER = 5, 60  # seconds of Retry-After: a server that restarts; what somebody has to look after
API_PATHS = ("/api/", "/images/")

# code -> status, title
PROBLEMS: dict[str, tuple[int, str]] = {
    # the request
    "invalid": (400, "The request is not valid"),
    "parse-error": (400, "The body cannot be read"),
    "bad-request": (400, "The request is malformed"),
    "not-authenticated": (401, "Log in first"),
    "authentication-failed": (401, "The credentials are wrong"),
    "permission-denied": (403, "You may not do this"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Not possible here"),
    "not-acceptable": (406, "Only JSON is answered"),
    "conflict": (409, "Somebody was faster"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of a wrong type"),
    "throttled": (429, "Too many requests"),
    # the image
    "too-many-bytes": (413, "The file is too large"),
    "not-an-image": (415, "Not an image"),
    "format-not-supported": (415, "A format we do not take"),
    "format-mismatch": (415, "Name and content disagree"),
    "empty-file": (422, "The file is empty"),
    "truncated-image": (422, "The image is damaged"),
    "too-many-pixels": (422, "The image has too many pixels"),
    "too-many-frames": (422, "The image has too many frames"),
    # the search
    "unknown-pipeline": (400, "No such pipeline"),
    "face-out-of-range": (400, "No such face"),
    "faces-not-allowed": (403, "You may not search faces here"),
    "not-searchable": (409, "Nothing to search with yet"),
    # ourselves
    "server-error": (500, "Something broke"),
    "busy": (503, "Too much at once"),
    "database-unavailable": (503, "The database is away"),
    "storage-unavailable": (503, "Files cannot be stored or read"),
    "model-unavailable": (503, "A model is not ready"),
    "no-serving-model": (503, "A model is not ready"),
    "disk-full": (507, "The disk is full"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: a key of PROBLEMS, a sentence that says what to do, and what else the client gets to know."""

    code: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]

    def body(self) -> dict[str, Any]:
        return {
            "type": f"urn:visearch:problem:{self.code}",
            "title": PROBLEMS[self.code][1],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }


def problem_json(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None, for what nobody foresaw, becomes `server_error` by way of Django."""
    problem = describe(error)
    if problem is None:
        return None
    if problem.status >= 500:
        logger.error("%s: %s", problem.code, error, exc_info=error)
    set_rollback()
    request = context.get("request")
    if request is not None:  # whatever this view renders otherwise, or the client accepts: a problem is JSON
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), "application/json"
    return Response(problem.body(), problem.status, headers=dict(problem.headers), content_type=PROBLEM_JSON)


@singledispatch
def describe(error: Exception) -> Problem | None:
    """What to tell the client of an error, None if nothing was foreseen."""
    return None


@describe.register
def _(error: exceptions.APIException) -> Problem:
    code = str(error.default_code).replace("_", "-")
    header = getattr(error, "auth_header", None)  # set by the view
    return Problem(code, str(error.detail), headers={"WWW-Authenticate": header} if header else {})


@describe.register
def _(error: exceptions.ValidationError) -> Problem:
    found = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
    errors = {str(name): _messages(messages) for name, messages in found.items()}
    name, messages = next(iter(errors.items()), ("", ["The request is not valid."]))
    detail = messages[0] if name in ("", "non_field_errors") else f"{name}: {messages[0]}"
    return Problem("invalid", detail, {"errors": errors})


def _messages(found: Any) -> list[str]:
    """All messages within a field's errors, however deep."""
    if isinstance(found, dict):
        return [message for inner in found.values() for message in _messages(inner)]
    if isinstance(found, list):
        return [message for inner in found for message in _messages(inner)]
    return [str(found)]


@describe.register
def _(error: exceptions.Throttled) -> Problem:
    seconds = max(1, int(getattr(error, "wait", None) or LATER))
    return Problem("throttled", f"Too many requests. Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


@describe.register
def _(error: BodyTooLarge) -> Problem:
    return Problem("body-too-large", str(error.detail), error.limits)


@describe.register
def _(error: Busy) -> Problem:
    return Problem("busy", str(error.detail), headers={"Retry-After": str(SOON)})


@describe.register
def _(error: Http404) -> Problem:
    return Problem("not-found", "There is no such object, or you may not see it.")


@describe.register
def _(error: PermissionDenied) -> Problem:
    return Problem("permission-denied", "You may not do this.")


@describe.register
def _(error: ImageRefused) -> Problem:
    return Problem(error.code, str(error), error.limits)


@describe.register
def _(error: NotStored) -> Problem:
    return Problem(error.code, str(error), {"line": error.line})


@describe.register
def _(error: SearchError) -> Problem:
    return Problem(error.code, str(error))


@describe.register
def _(error: StorageUnavailable) -> Problem:
    return Problem(error.code, str(error), headers={"Retry-After": str(LATER)})


@describe.register
def _(error: ModelUnavailable) -> Problem:
    """Its own words name files of the server: they are for the log."""
    detail = f"The model {error.name} cannot be used now. Whoever runs this site finds out why by `manage.py models`."
    return Problem(error.code, detail, headers={"Retry-After": str(LATER)})


@describe.register
def _(error: NoServingModel) -> Problem:
    return Problem(error.code, str(error), headers={"Retry-After": str(LATER)})


@describe.register(OperationalError)
@describe.register(InterfaceError)
def _(error: OperationalError | InterfaceError) -> Problem:
    return Problem(
        "database-unavailable",
        "The database does not answer. Nothing was lost; try again in a moment.",
        headers={"Retry-After": str(SOON)},
    )


@describe.register
def _(error: IntegrityError) -> Problem:
    return Problem("conflict", "Somebody changed the same thing in this moment. Look again, then try again.")


@describe.register
def _(error: RequestDataTooBig) -> Problem:
    return Problem("body-too-large", "The form fields are too large. Send the image as a file, and less beside it.")


@describe.register
def _(error: SuspiciousOperation) -> Problem:
    return Problem("bad-request", "The request was refused as malformed. Look at its host name, fields and files.")


@describe.register
def _(error: UnreadablePostError) -> Problem:
    return Problem("parse-error", "The body ended before its end. Send it again.")


# --- Django's own handlers: what happens outside of any view of the API -----------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return _plain(describe(exception) or Problem("bad-request", "The request is malformed."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return _plain(Problem("permission-denied", "You may not do this."))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return _plain(Problem("not-found", "There is no such address. /api/docs/ lists those there are."))


def server_error(request: HttpRequest) -> HttpResponse:
    if not _is_api(request):
        return defaults.server_error(request)
    return _plain(Problem("server-error", "Something broke here that nobody foresaw. It is in the server's log."))


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(API_PATHS)


def _plain(problem: Problem) -> JsonResponse:
    return JsonResponse(problem.body(), status=problem.status, headers=dict(problem.headers), content_type=PROBLEM_JSON)
