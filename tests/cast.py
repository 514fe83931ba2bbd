"""The people of the permission tests, and collections that they may and may not see.

| | `private` | `public` | `foreign` |
| --- | --- | --- | --- |
| anonymous | | sees | |
| viewer | sees | sees | |
| editor | edits | edits | |
| other editor | | sees | edits |
| superuser | edits | edits | edits |

Faces in `public` may be searched and seen by its own groups only.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, User
from knox.models import AuthToken
from rest_framework.test import APIClient

from catalog.models import Collection, Image, Person, Region

PEOPLE = ("anonymous", "viewer", "editor", "other_editor", "superuser")
_numbers = itertools.count(1)


@dataclass
class Cast:
    viewer: User
    editor: User
    other_editor: User
    superuser: User
    private: Collection
    public: Collection
    foreign: Collection

    def client(self, name: str) -> APIClient:
        """Somebody of PEOPLE with a token of theirs."""
        client = APIClient()
        if name != "anonymous":
            _, token = AuthToken.objects.create(user=getattr(self, name))
            client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        return client


def make_image(collection: Collection, **facts: Any) -> Image:
    """A row of an image that is ready; it has no files."""
    sha256 = hashlib.sha256(str(next(_numbers)).encode()).hexdigest()
    defaults = {"sha256": sha256, "format": "JPEG", "width": 640, "height": 480, "byte_size": 9, "status": "ready"}
    return Image.objects.create(collection=collection, **{**defaults, **facts})


def make_face(image: Image, person: Person | None = None, **facts: Any) -> Region:
    box = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0}
    return Region.objects.create(image=image, **{"pipeline": "face", "score": 0.9, **box, "person": person, **facts})


def _member(name: str, group: Group) -> User:
    user = User.objects.create_user(name)  # without a password: hashing one takes longer than a test
    user.groups.add(group)
    return user


def make_cast() -> Cast:
    editors, viewers, others = (Group.objects.get_or_create(name=name)[0] for name in ("editors", "viewers", "others"))
    both = ["face", "image"]
    private = Collection.objects.create(name="private", pipelines=both)
    public = Collection.objects.create(name="public", pipelines=both, is_public=True)
    foreign = Collection.objects.create(name="foreign", pipelines=both)
    for collection in (private, public):
        collection.editors.add(editors)
        collection.viewers.add(viewers)
    foreign.editors.add(others)
    return Cast(
        viewer=_member("viewer", viewers),
        editor=_member("editor", editors),
        other_editor=_member("other_editor", others),
        superuser=User.objects.create_superuser("superuser"),
        private=private,
        public=public,
        foreign=foreign,
    )


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The response is this problem, in the one shape that all problems have; its body."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"] == f"urn:visearch:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.content.decode()
    return body
