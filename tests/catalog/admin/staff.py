"""The cast of the permission tests as staff in the admin, by browser, and what they are told; also without Redis."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Task
from django.contrib.auth.models import Group
from django.test import Client
from kombu.exceptions import OperationalError as BrokerError

from catalog import broker
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


def told(answer: Any) -> str:
    """The messages that the page shows."""
    return " ".join(str(message) for message in answer.context["messages"])


def take_redis_from(task: Task[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this task reaches no worker, and the pages know."""

    def away(*_: object, **__: object) -> None:
        raise BrokerError("connection refused")

    monkeypatch.setattr(task, "delay", away)
    monkeypatch.setattr(broker, "is_away", lambda: True)
