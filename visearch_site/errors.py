"""Every error in one shape: of the API as application/problem+json (RFC 9457), of all other addresses as a page."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    JsonResponse,
    UnreadablePostError,
)
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from catalog.api.decoding import Busy
from catalog.api.exceptions import NotStored
from catalog.api.parsers import BodyTooLarge
from catalog.api.schema import PROBLEM_JSON
from catalog.curation.errors import CurationError
from catalog.exceptions import DecoderUnavailable, ImageRefused, ModelUnavailable, NoServingModel, StorageUnavailable
from catalog.idempotency import KeyInUse, KeyReused
from catalog.intake.errors import JobError
from search.exceptions import SearchError
from visearch_site.error_pages import problem_page
from visearch_site.problems import Problem

logger = logging.getLogger(__name__)

SOON, LATER = 5, 60  # seconds of Retry-After: a server that restarts; what somebody has to look after
# The API's addresses, and files of images; /images/<id>/ is a page.
_API_PATH = re.compile(r"/api/|/images/(?![0-9a-f-]{36}/$)")


def problem_json(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None, for what nobody foresaw, becomes `server_error` by way of Django."""
    problem = _foreseen(error)
    if problem is None:
        return None
    set_rollback()
    request = context.get("request")
    if request is not None:  # whatever this view renders otherwise, or the client accepts: a problem is JSON
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), "application/json"
    return Response(problem.body(), problem.status, headers=dict(problem.headers), content_type=PROBLEM_JSON)


def _foreseen(error: Exception) -> Problem | None:
    """What to tell the client; what is our fault goes into the log as well."""
    problem = describe(error)
    if problem is not None and problem.status >= 500:
        logger.error("%s: %s", problem.code, error, exc_info=error)
    return problem


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
def problem_of_throttle(error: exceptions.Throttled) -> Problem:
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
def _(error: CurationError | JobError | KeyReused | SearchError) -> Problem:
    return Problem(error.code, str(error))


@describe.register
def _(error: KeyInUse) -> Problem:
    return Problem(error.code, str(error), headers={"Retry-After": str(SOON)})


@describe.register
def _(error: StorageUnavailable) -> Problem:
    return Problem(error.code, str(error), headers={"Retry-After": str(LATER)})


@describe.register
def _(error: DecoderUnavailable) -> Problem:
    """Its own words are of processes of the server: they are for the log."""
    detail = "Images cannot be read at this moment. Nothing of yours was kept; send it again."
    return Problem(error.code, detail, headers={"Retry-After": str(SOON)})


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


# --- Outside of any view of the API ----------------------------------------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, describe(exception) or Problem("bad-request", "The request is malformed."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, Problem("permission-denied", "You may not do this."))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, Problem("not-found", "There is no such address. /api/docs/ lists those there are."))


def server_error(request: HttpRequest) -> HttpResponse:
    detail = "Something broke here that nobody foresaw. It is in the server's log."
    return _answer(request, Problem("server-error", detail))


class PageErrors:
    """Middleware: what a view of a page raises becomes a page of the same problem that the API would answer with.

    Django keeps what it has handlers for, and what nobody foresaw.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not isinstance(response, HttpResponseNotAllowed) or response.content or _is_api(request):
            return response
        detail = f"This address takes no {request.method}."
        return problem_page(request, Problem("method-not-allowed", detail, headers={"Allow": response["Allow"]}))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if _is_api(request) or isinstance(exception, Http404 | PermissionDenied | SuspiciousOperation):
            return None
        problem = _foreseen(exception)
        return None if problem is None else problem_page(request, problem)


def _is_api(request: HttpRequest) -> bool:
    """An address below /images/ that nobody knows belongs to the files, unless a browser asks for a page."""
    match = _API_PATH.match(request.path_info)
    if match is None:
        return False
    return match[0] == "/api/" or "text/html" not in request.headers.get("Accept", "")


def _answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    if not _is_api(request):
        return problem_page(request, problem)
    return JsonResponse(problem.body(), status=problem.status, headers=dict(problem.headers), content_type=PROBLEM_JSON)
