"""The header `Idempotency-Key` of creating calls (draft-ietf-httpapi-idempotency-key-header, revision 07).

The packages for REST framework that there are hash ``request.body``, which an upload of files must not become, or leave
a key of a process that died in use for good; so it is written here, upon catalog.idempotency.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import wraps
from hashlib import sha256
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from catalog import idempotency, storage
from catalog.api.bodies import content_of
from catalog.api.exceptions import NotStored
from catalog.api.fields import FORM_EXTRAS
from catalog.api.schema import PROBLEM_JSON
from catalog.idempotency import Answered, Turn

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # a String of RFC 8941, as the draft wants it
_KEY = re.compile(r"[\x21-\x7e]{1,200}")

IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    location=OpenApiParameter.HEADER,
    description=(
        "A name of your own for this request, such as a UUID: 1 to 200 visible ASCII characters, with or without the "
        "quotes of a structured field. Sent again with the same key, the request is answered as it was the first time "
        f"(with `{REPLAYED}: true`) and nothing is done twice. Keys are kept for a day, unless the site says otherwise."
    ),
)


def carried_out_once(operation: Callable[..., Response]) -> Callable[..., Response]:
    """Of a view's method: what is sent again under the same key is not carried out, but answered again.

    The method takes a ``turn`` and makes what it makes under ``turn.id``. Its answer is kept where something was made:
    a success, or a file refused into a line (NotStored). After any other error below 500 the key is free again; after
    one above, and where somebody was faster (IntegrityError), part of it may have been done: whoever sends the request
    again goes on with the same id.
    """

    @wraps(operation)
    def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = _key_of(request)
        if key is None or request.user.pk is None:
            return operation(view, request, *args, turn=Turn.without_key(), **kwargs)
        turn = idempotency.take(request.user.pk, key, fingerprint_of(request))
        if isinstance(turn, Answered):
            return _again(turn)
        try:
            response, error = _carried_out(view, operation, request, *args, turn=turn, **kwargs)
        except BaseException:
            idempotency.leave(turn)
            raise
        _conclude(turn, response, error)
        return response

    return answer


def _carried_out(
    view: Any, operation: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
) -> tuple[Response, Exception | None]:
    """The answer, and the error that it tells of. Raises what nobody foresaw."""
    try:
        return operation(view, request, *args, **kwargs), None
    except Exception as error:  # noqa: BLE001 - REST framework does the same around every method, and raises the rest
        return view.handle_exception(error), error


def _conclude(turn: Turn, response: Response, error: Exception | None) -> None:
    if error is None or isinstance(error, NotStored):
        idempotency.answered(turn, response.status_code, json.loads(JSONRenderer().render(response.data)))
    elif response.status_code < 500 and not isinstance(error, IntegrityError):
        idempotency.give_back(turn)
    else:
        idempotency.leave(turn)


def _again(answered: Answered) -> Response:
    kind = PROBLEM_JSON if answered.status >= 400 else None
    return Response(answered.body, answered.status, headers={REPLAYED: "true"}, content_type=kind)


def _key_of(request: Request) -> str | None:
    """None where none was sent. Raises ValidationError."""
    sent = request.headers.get(HEADER)
    if sent is None:
        return None
    quoted = _QUOTED.fullmatch(sent.strip())
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else sent.strip()
    if not _KEY.fullmatch(key) or (key.startswith('"') and not quoted):
        raise ValidationError({HEADER: ["Send 1 to 200 visible ASCII characters, a UUID for example."]})
    return key


def fingerprint_of(request: Request) -> str:
    """sha256 of method, address, fields and files: of what is said, not of the bytes that carry it.

    A client that sends its form again chooses another boundary. Files are read in chunks.
    """
    data = request.data  # parses, or raises what the view would
    path = request.path.rstrip("/")
    said = data if not request.FILES and not request.POST else [*_fields(request), *_files(request)]
    whole = [request.method, path, request.META.get("QUERY_STRING", ""), said]
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _fields(request: Request) -> Iterator[list[Any]]:
    for name, values in sorted(request.POST.lists()):
        if name not in FORM_EXTRAS:
            yield [name, values]


def _files(request: Request) -> Iterator[list[Any]]:
    for name, files in sorted(request.FILES.lists()):
        yield [name, [_told(file) for file in files]]


def _told(file: UploadedFile[bytes]) -> list[Any]:
    return [file.name, file.size, storage.sha256_of(content_of(file))]
