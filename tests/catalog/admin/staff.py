"""The cast of the permission tests as staff in the admin, by browser."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.test import Client

from catalog.groups import EDITORS
from tests.cast import Cast


def staff_client(cast: Cast, name: str) -> Client:
    """A browser of somebody of tests.cast.PEOPLE: all are staff, both editors may do what that group may, the viewer
    nothing.
    """
    client = Client()
    if name != "anonymous":
        user = getattr(cast, name)
        user.is_staff = True
        user.save()
        if name == "other_editor":
            Group.objects.get(name="others").permissions.set(Group.objects.get(name=EDITORS).permissions.all())
        client.force_login(user)
    return client
