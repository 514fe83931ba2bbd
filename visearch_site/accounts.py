"""Signing in and out on the page: of viewers, whom the admin does not let in, and of everybody else as well."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import Throttled

from catalog.api.auth import LoginThrottle
from search.api.uploads import check_throttles
from search.policy import PAGE, restricted
from visearch_site.error_pages import problem_page
from visearch_site.errors import problem_of_throttle


class SignIn(LoginView):
    """Attempts are counted with those to get a token."""

    template_name = "account/sign_in.html"
    next_page = "page"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            check_throttles(request, (LoginThrottle,))
        except Throttled as error:
            return problem_page(request, problem_of_throttle(error), "too-many-sign-ins")
        return super().post(request, *args, **kwargs)

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        return restricted(super().render_to_response(context, **response_kwargs), PAGE)


sign_in = SignIn.as_view()
sign_out = LogoutView.as_view(next_page="page")
