"""How the admin looks (django-unfold), and the policy that its pages need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

ADMIN_PATH = "/admin/"

# Unfold's menus, filters and themes are Alpine expressions in attributes, which Alpine's standard build evaluates by
# `new Function`: without 'unsafe-eval' Chromium refuses every one of them, and no menu or filter opens. Its colours are
# an inline style, as the site's style-src allows. Inline scripts stay forbidden; other pages keep the site's policy.
ADMIN_POLICY = {"script-src": ["'self'", "'unsafe-eval'"]}


def admin_policy(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware, inside of django-csp's: lets the pages of the admin, and those alone, evaluate expressions."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.path_info.startswith(ADMIN_PATH):
            response._csp_update = ADMIN_POLICY  # type: ignore[attr-defined]  # where django-csp's own decorators put it
        return response

    return respond


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _item(title: Any, icon: str, url: str, permission: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{url}"), "permission": _may(permission)}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "visearch",
    "SITE_HEADER": "visearch",
    "SITE_SUBHEADER": _("catalogue"),
    "SITE_SYMBOL": "image_search",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("search/icon.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("catalog/admin/admin.css")],
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .19 259.8)",
            "600": "oklch(52% .2 262.9)",
            "700": "oklch(46% .2 264.4)",
            "800": "oklch(42.4% .18 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": _("Catalogue"),
                "items": [
                    _item(
                        _("Collections"), "photo_library", "catalog_collection_changelist", "catalog.view_collection"
                    ),
                    _item(_("Images"), "image", "catalog_image_changelist", "catalog.view_image"),
                    {
                        **_item(
                            _("Near duplicates"),
                            "content_copy",
                            "catalog_nearduplicate_changelist",
                            "catalog.change_image",
                        ),
                        "badge": "catalog.admin.near_duplicates.count_open",
                    },
                    _item(_("People"), "face", "catalog_person_changelist", "catalog.view_person"),
                    _item(_("Jobs"), "move_to_inbox", "catalog_intakejob_changelist", "catalog.view_intakejob"),
                    _item(_("Search health"), "monitor_heart", "search_health", "search.view_indexgeneration"),
                    _item(
                        _("Embedding models"),
                        "model_training",
                        "catalog_embeddingmodel_changelist",
                        "catalog.view_embeddingmodel",
                    ),
                    _item(_("Evaluations"), "insights", "search_evaluationrun_changelist", "catalog.view_collection"),
                ],
            },
            {
                "title": _("Access and records"),
                "separator": True,
                "collapsible": True,
                "items": [
                    _item(_("Users"), "person", "auth_user_changelist", "auth.view_user"),
                    _item(_("Groups"), "group", "auth_group_changelist", "auth.view_group"),
                    _item(_("API tokens"), "key", "knox_authtoken_changelist", "knox.view_authtoken"),
                    _item(
                        _("Discarded files"),
                        "delete_history",
                        "catalog_discardedfile_changelist",
                        "catalog.change_image",
                    ),
                    _item(_("Log"), "history", "admin_logentry_changelist", "admin.view_logentry"),
                    _item(
                        _("Timetable"),
                        "schedule",
                        "django_celery_beat_periodictask_changelist",
                        "django_celery_beat.view_periodictask",
                    ),
                ],
            },
        ],
    },
}
