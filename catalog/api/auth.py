"""Tokens: one for a name and password, gone by logging out or by itself when it expires (VISEARCH_TOKEN_DAYS)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from catalog.api.authentication import TokenAuthentication
from catalog.api.bodies import body_of
from catalog.api.fields import StrictSerializer
from catalog.api.schema import problems


class LoginThrottle(AnonRateThrottle):
    """Attempts from one address, right or wrong."""

    scope = "login"


class LoginForm(StrictSerializer):
    username = serializers.CharField()
    password = serializers.CharField(trim_whitespace=False, style={"input_type": "password"})


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="Shown this once; only its hash is kept.")
    expiry = serializers.DateTimeField()


class LoginView(APIView):
    authentication_classes = ()  # Basic is tried below, after the throttle has counted the attempt
    permission_classes = (AllowAny,)
    throttle_classes = (LoginThrottle,)

    @extend_schema(
        operation_id="login",
        tags=["auth"],
        summary="Get a token",
        description="Send `username` and `password` as JSON, or HTTP Basic authentication and no body.",
        request=LoginForm,
        responses={200: TokenSerializer, **problems(400, 401, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        user = _user_by_basic(request) or _user_by_form(request)
        row, token = AuthToken.objects.create(user=user)
        user_logged_in.send(sender=type(user), request=request, user=user)
        return Response(TokenSerializer({"token": token, "expiry": row.expiry}).data)


def _user_by_basic(request: Request) -> User | None:
    found = BasicAuthentication().authenticate(request)
    return found[0] if found else None


def _user_by_form(request: Request) -> User:
    form = LoginForm(data=body_of(request))
    form.is_valid(raise_exception=True)
    user = authenticate(request, **form.validated_data)
    if user is None:
        raise AuthenticationFailed("Name or password is wrong, or the account is closed.")
    return user


class LogoutView(APIView):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="logout",
        tags=["auth"],
        summary="Give this token up",
        request=None,
        responses={204: None, **problems(401, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        request.auth.delete()
        return Response(status=204)


class LogoutAllView(APIView):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="logout_all",
        tags=["auth"],
        summary="Give all your tokens up",
        request=None,
        responses={204: None, **problems(401, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        AuthToken.objects.filter(user=request.user).delete()
        return Response(status=204)
