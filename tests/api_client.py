"""Somebody who uses the running stack through its API."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import requests

from tests.stack import Stack, wait_for

MAKE_EDITOR = """
from django.contrib.auth.models import Group, User
from catalog.models import Collection
group = Group.objects.create(name={name!r})
User.objects.create_user({name!r}, password={password!r}).groups.add(group)
collection = Collection.objects.create(
    name={name!r}, pipelines=["face", "image"], is_public=True, face_search="everyone")
collection.editors.add(group)
"""


class ApiClient:
    """An API client: an editor of one collection of its own."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.name, password = stack, f"story-{secrets.token_hex(4)}", secrets.token_hex(12)
        self.headers: dict[str, str] = {}
        stack.manage("shell", "-c", MAKE_EDITOR.format(name=self.name, password=password))
        login = self.post("/auth/login/", json={"username": self.name, "password": password})
        self.headers = {"Authorization": f"Token {login['token']}"}

    def post(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.stack.url}/api/v1{path}", headers=self.headers, timeout=60, **body)
        assert answer.ok, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return requests.get(f"{self.stack.url}/api/v1{path}", headers=self.headers, timeout=60).json()

    def upload(self, path: Path) -> dict[str, Any]:
        return self.upload_bytes(path.read_bytes(), path.name)

    def upload_bytes(self, content: bytes, name: str) -> dict[str, Any]:
        """The line that the upload was answered with."""
        files = {"image": (name, content)}
        line: dict[str, Any] = self.post("/images/", data={"collection": self.name}, files=files)
        return line

    def upload_and_wait(self, path: Path) -> dict[str, Any]:
        line = self.upload(path)
        assert line["verdict"] == "stored", line
        return self.wait_until_ready(line["image"])

    def wait_until_ready(self, image_id: str) -> dict[str, Any]:
        ready: dict[str, Any] = wait_for(
            "the image to be ready", lambda: (image := self.get(f"/images/{image_id}/"))["status"] == "ready" and image
        )
        return ready

    def search(self, path: Path, **options: Any) -> dict[str, Any]:
        data = {"collection": self.name, **options}
        with path.open("rb") as file:
            answer: dict[str, Any] = self.post("/search/", data=data, files={"image": file})
        return answer

    def found(self, path: Path, **options: Any) -> list[tuple[str, float]]:
        results = self.search(path, **options)["results"]
        return [(result["image"]["id"], result["distance"]) for result in results]
