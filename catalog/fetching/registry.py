"""What the settings say may be fetched. The only reader of settings in this package."""

from __future__ import annotations

import re
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from catalog.fetching.rules import Allowed, Rules, read_allowed

_CONTACT = re.compile(r"[!-'*-~]+")  # what a comment of a User-Agent takes (RFC 9110, 5.6.5), without parentheses


@cache
def rules() -> Rules:
    """Raises ImproperlyConfigured naming the setting."""
    return Rules(
        allowed=_allowed(),
        user_agent=_user_agent(),
        bytes=settings.VISEARCH_LIMITS["bytes"],
        seconds=_at_least("VISEARCH_FETCH_SECONDS", 1),
    )


def check() -> None:
    """Raises ImproperlyConfigured naming the setting; also of those that only who fetches reads (catalog.intake)."""
    rules()
    _at_least("VISEARCH_FETCH_AT_ONCE", 1)
    _at_least("VISEARCH_FETCH_PER_HOST", 1)


def _allowed() -> tuple[Allowed, ...]:
    try:
        return tuple(read_allowed(entry) for entry in settings.VISEARCH_FETCH_ALLOW)
    except ValueError as error:
        raise ImproperlyConfigured(f"VISEARCH_FETCH_ALLOW: {error}.") from error


def _user_agent() -> str:
    contact = settings.VISEARCH_FETCH_CONTACT
    if contact and not _CONTACT.fullmatch(contact):
        raise ImproperlyConfigured(
            "VISEARCH_FETCH_CONTACT is no address of a page or a mailbox: it is sent in a header, in ASCII, without "
            "spaces and parentheses."
        )
    return f"visearch/{settings.VISEARCH_VERSION}" + (f" (+{contact})" if contact else "")


def _at_least(setting: str, least: float) -> float:
    value: float = getattr(settings, setting)
    if value < least:
        raise ImproperlyConfigured(f"{setting} is {value:g}; it must be at least {least:g}.")
    return value


def _forget(*, setting: str, **_: object) -> None:
    if setting.startswith("VISEARCH_"):
        rules.cache_clear()


setting_changed.connect(_forget, dispatch_uid="catalog.fetching.registry")
