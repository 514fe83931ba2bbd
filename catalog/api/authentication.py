"""Who is asking: a knox token in the Authorization header (the session cookie is the other way, see settings)."""

from __future__ import annotations

from django.contrib.auth.models import User
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """``Authorization: Token <token>``. What cannot be a token is refused in words: knox would fail on its bytes."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, AuthToken]:
        if not token.isalnum():
            raise AuthenticationFailed("This is not a token. Log in at /api/v1/auth/login/ to get one.")
        return super().authenticate_credentials(token)  # type: ignore[no-any-return]


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """The same scheme in the OpenAPI document; defining the class registers it."""

    target_class = "catalog.api.authentication.TokenAuthentication"
    name = "token"
