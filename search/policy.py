"""What a browser may load on the page: our own scripts and styles, never any written into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec

from django.http import HttpResponse

P = ParamSpec("P")
Policy = Mapping[str, Sequence[str]]

PAGE: Policy = {"style-src": ["'self'"], "img-src": ["'self'"]}
PAGE_WITH_PREVIEW: Policy = {**PAGE, "img-src": ["'self'", "data:"]}  # the preview is in the answer, and nowhere else


def restricted(response: HttpResponse, policy: Policy) -> HttpResponse:
    """The response under this policy instead of the site's."""
    response._csp_replace = dict(policy)  # type: ignore[attr-defined]  # where django-csp's own decorators put it
    return response


def under(policy: Policy) -> Callable[[Callable[P, HttpResponse]], Callable[P, HttpResponse]]:
    """A view whose answers are under this policy. django-csp types its own for views without arguments."""

    def decorate(view: Callable[P, HttpResponse]) -> Callable[P, HttpResponse]:
        @wraps(view)
        def respond(*args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            return restricted(view(*args, **kwargs), policy)

        return respond

    return decorate
