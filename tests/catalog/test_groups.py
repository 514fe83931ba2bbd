from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User

from catalog.groups import make_editors

pytestmark = pytest.mark.django_db


def test_migrating_makes_the_editors_with_what_they_need() -> None:
    editor = User.objects.create_user("ed", is_staff=True)
    editor.groups.add(Group.objects.get(name="editors"))
    for may in ("change_image", "delete_image", "change_collection", "change_person", "view_intakeline"):
        assert editor.has_perm(f"catalog.{may}"), may
    for may_not in ("add_collection", "delete_collection", "delete_person", "add_embedding"):
        assert not editor.has_perm(f"catalog.{may_not}"), may_not


def test_permissions_that_somebody_chose_stay() -> None:
    editors = Group.objects.get(name="editors")
    kept = editors.permissions.get(codename="view_image")
    editors.permissions.set([kept])
    make_editors(apps.get_app_config("catalog"), "default")
    assert list(editors.permissions.all()) == [kept]
