"""Errors as pages for people, in the design of the page and in their language: problems by the same codes as the API's.

A page of an error must not fail itself: it asks no database and no session.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views import defaults

from search.api.uploads import FIELD
from search.policy import PAGE, restricted
from visearch_site.problems import Problem

logger = logging.getLogger(__name__)

Text = str | Promise

# code -> title, sentence. What is not here (it cannot happen on the page) is told in the API's words.
WORDS: dict[str, tuple[Text, Text]] = {
    "too-many-bytes": (_("This file is too large"), _("A photo may have %(limit)s. Send a smaller copy of it.")),
    "not-an-image": (_("This is not an image"), _("It holds something else. Choose a photo.")),
    "format-not-supported": (
        _("We cannot read this kind of image"),
        _("Choose a JPEG, PNG, WebP, HEIC, AVIF, GIF or TIFF."),
    ),
    "format-mismatch": (
        _("Name and content disagree"),
        _("It ends like one kind of image and is another. Rename it, or choose another photo."),
    ),
    "empty-file": (_("This file is empty"), _("There is nothing in it. Choose another photo.")),
    "truncated-image": (_("This image is damaged"), _("Its end is missing or broken. Choose another copy of it.")),
    "too-many-pixels": (_("This image is too large"), _("It has too many pixels. Send a smaller copy of it.")),
    "too-many-frames": (_("This animation is too long"), _("Send a still image, or a shorter animation.")),
    "foreign-content": (_("This is more than an image"), _("Something else is hidden in it. Choose another photo.")),
    "too-much-metadata": (_("This is more than an image"), _("Something else is hidden in it. Choose another photo.")),
    "too-much-memory": (_("This image is too large"), _("It has too many pixels. Send a smaller copy of it.")),
    "too-slow": (_("This image is too large"), _("Reading it takes too long. Send a smaller copy of it.")),
    "decoder-died": (_("This image is damaged"), _("Its end is missing or broken. Choose another copy of it.")),
    "invalid": (_("That cannot be searched with"), "%(detail)s"),
    "body-too-large": (_("That is too much at once"), _("Send one photo, and little beside it.")),
    "parse-error": (_("Only a part of it arrived"), _("The connection broke off. Send it once more.")),
    "throttled": (
        _("That was a lot of searches"),
        _("Wait %(seconds)s seconds, then search on. If you sent a photo, put it in again: it was not kept."),
    ),
    "busy": (_("Many are searching just now"), _("Nothing of yours was kept. Try again in a moment.")),
    "bad-request": (_("That request was not understood"), _("Go back to the search and begin once more.")),
    "permission-denied": (
        _("This is not for you to see"),
        _("Sign in with another account, or go back to the search."),
    ),
    "not-found": (
        _("There is nothing here"),
        _("The address is wrong, or what was here is gone or not for everybody."),
    ),
    "method-not-allowed": (_("That does not work here"), _("Go back to the search and begin once more.")),
    "conflict": (
        _("Somebody was faster"),
        _("They changed the same thing in this moment. Look again, then try again."),
    ),
    "server-error": (
        _("Something broke here"),
        _("It is not your fault, and it is in our log. Try again in a moment."),
    ),
    "database-unavailable": (_("We are away for a moment"), _("Nothing was lost. Try again in a minute.")),
    "decoder-unavailable": (
        _("Many are searching just now"),
        _("Nothing of yours was kept. Try again in a moment."),
    ),
    "storage-unavailable": (_("We are away for a moment"), _("Images cannot be read just now. Try again later.")),
    "model-unavailable": (
        _("Searching is not possible just now"),
        _("What recognises images is being looked after. Try again later."),
    ),
    "no-serving-model": (
        _("Searching is not possible yet"),
        _("What recognises images has still to be set up. Try again later."),
    ),
    "too-many-sign-ins": (_("That was a lot of attempts"), _("Wait %(seconds)s seconds, then sign in again.")),
    "session-ended": (
        _("This page was open for too long"),
        _("For your safety its forms have expired, or cookies are off. Begin once more."),
    ),
}


def problem_page(request: HttpRequest, problem: Problem, words: str = "") -> HttpResponse:
    """The page of a problem, in the words of its code or of another key of WORDS; Django's plain one if that fails."""
    try:
        title, sentence = WORDS.get(words or problem.code, (problem.title, "%(detail)s"))
        response = render(
            request,
            "errors/problem.html",
            {
                "status": problem.status,
                "title": title,
                "sentence": str(sentence) % _numbers(problem),
                "file_name": _file_name(request),
                "ask_again": _is_upload(request) and problem.code != "server-error",
                "chosen": _chosen(request, problem),
            },
            status=problem.status,
        )
    except Exception:
        logger.exception("the page of %s cannot be made", problem.code)
        return defaults.server_error(request)
    for name, value in problem.headers.items():
        response.headers[name] = value
    response.headers["Cache-Control"] = "no-store"
    return restricted(response, PAGE)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """CSRF_FAILURE_VIEW: of forms, hence of pages; the API answers for itself."""
    return problem_page(request, Problem("permission-denied", reason), "session-ended")


def _is_upload(request: HttpRequest) -> bool:
    return request.path == reverse("search-upload")


def _numbers(problem: Problem) -> Mapping[str, Any]:
    limit = problem.extra.get("limit")
    return {
        "detail": problem.detail,
        "limit": filesizeformat(limit) if isinstance(limit, int) else "",
        "seconds": problem.headers.get("Retry-After", ""),
    }


def _chosen(request: HttpRequest, problem: Problem) -> Mapping[str, str]:
    """The collection and the label that came with the photo, for the next one. One that is not there is let go."""
    if not _is_upload(request) or problem.code == "not-found":
        return {}
    try:
        return {name: request.POST.get(name, "") for name in ("collection", "label")}
    except Exception:  # noqa: BLE001 - whatever stopped the body from being read is what this page tells
        return {}


def _file_name(request: HttpRequest) -> str:
    """Of the file that was sent, unless sending it is what failed."""
    if not _is_upload(request) or request.method != "POST":
        return ""
    try:
        files = request.FILES.getlist(FIELD)
    except Exception:  # noqa: BLE001 - whatever stopped the body from being read is what this page tells
        return ""
    return str(files[0].name) if len(files) == 1 else ""
