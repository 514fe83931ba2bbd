"""What the shop of the browser tests has: some samples, its people, and photographs to search with, made in memory."""

from __future__ import annotations

import io

from PIL import Image

from catalog.samples.photographs import FOLDER
from tests.stack import Stack

STAFF = "staff"  # a superuser
EDITOR = "editor"  # may edit `EDITED` alone
PASSWORD = "a password of the tests"
EDITED = "Summer"
PORTRAIT = FOLDER / "Barack Obama" / "portrait-2012.jpg"
SPEECH = FOLDER / "Barack Obama" / "congress-2009.jpg"
BIDEN = FOLDER / "Joe Biden" / "blue-room-2010.jpg"

MAKE = f"""
from django.contrib.auth.models import Group, User
from catalog.models import Collection
User.objects.create_superuser({STAFF!r}, password={PASSWORD!r})
editor = User.objects.create_user({EDITOR!r}, password={PASSWORD!r}, is_staff=True)
team = Group.objects.create(name="summer team")
editor.groups.add(team, Group.objects.get_or_create(name="editors")[0])
Collection.objects.create(name={EDITED!r}, pipelines=["face", "image"]).editors.add(team)
"""


def fill(stack: Stack) -> None:
    """Staff, a private collection, the leaders and some objects; the worker processes them meanwhile."""
    stack.manage("shell", "-c", MAKE)
    stack.manage("load_samples", "leaders", "--no-wait")
    stack.manage("load_samples", "objects", "--at-most", "120", "--no-wait")


def group_photo() -> bytes:
    """A JPEG with two faces side by side: the first is Joe Biden's, the second Barack Obama's."""
    photos = [Image.open(path).convert("RGB") for path in (BIDEN, SPEECH)]
    height = 600
    scaled = [photo.resize((photo.width * height // photo.height, height)) for photo in photos]
    both = Image.new("RGB", (sum(photo.width for photo in scaled), height))
    left = 0
    for photo in scaled:
        both.paste(photo, (left, 0))
        left += photo.width
    out = io.BytesIO()
    both.save(out, "JPEG", quality=90)
    return out.getvalue()
