"""The group `editors`: what its members may do in the admin. On which collections is said by each collection.

Made after every `migrate`, once the permissions exist that it is given. Connected in catalog.apps.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.models import Group, Permission
from django.db import router

EDITORS = "editors"
ALLOWED = {
    "collection": ("view", "change"),
    "image": ("view", "add", "change", "delete"),
    "region": ("view", "add", "change", "delete"),
    "person": ("view", "add", "change"),
    "personmerge": ("view",),
    "intakejob": ("view", "add", "delete"),
    "intakeline": ("view",),
}


def make_editors(sender: AppConfig, using: str, **_: Any) -> None:
    """A group that has permissions keeps those it has: whoever runs the site may have chosen them."""
    if not router.allow_migrate_model(using, Group):
        return
    group, _made = Group.objects.using(using).get_or_create(name=EDITORS)
    if not group.permissions.exists():
        names = [f"{action}_{model}" for model, actions in ALLOWED.items() for action in actions]
        permissions = Permission.objects.using(using).filter(content_type__app_label="catalog", codename__in=names)
        group.permissions.set(permissions)
