"""What a client can be told: one table of stable codes. docs/api.md explains them; a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# code -> status, title
PROBLEMS: dict[str, tuple[int, str]] = {
    # the request
    "invalid": (400, "The request is not valid"),
    "parse-error": (400, "The body cannot be read"),
    "bad-request": (400, "The request is malformed"),
    "not-authenticated": (401, "Log in first"),
    "authentication-failed": (401, "The credentials are wrong"),
    "permission-denied": (403, "You may not do this"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Not possible here"),
    "not-acceptable": (406, "Only JSON is answered"),
    "conflict": (409, "Somebody was faster"),
    "job-error": (409, "Not possible with this job"),
    "job-gone": (409, "The job was deleted"),
    "idempotency-key-in-use": (409, "The same request is under way"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of a wrong type"),
    "idempotency-key-reused": (422, "The key belongs to another request"),
    "throttled": (429, "Too many requests"),
    # the image
    "too-many-bytes": (413, "The file is too large"),
    "not-an-image": (415, "Not an image"),
    "format-not-supported": (415, "A format we do not take"),
    "format-mismatch": (415, "Name and content disagree"),
    "empty-file": (422, "The file is empty"),
    "truncated-image": (422, "The image is damaged"),
    "too-many-pixels": (422, "The image has too many pixels"),
    "too-many-frames": (422, "The image has too many frames"),
    "foreign-content": (422, "The file is more than an image"),
    "too-much-metadata": (422, "The image carries too much beside its pixels"),
    "too-much-memory": (422, "The image takes too much memory"),
    "too-slow": (422, "The image takes too long to read"),
    "decoder-died": (422, "The image cannot be read"),
    "no-embedding": (422, "A model can do nothing with the image"),
    # the search
    "unknown-pipeline": (400, "No such pipeline"),
    "face-out-of-range": (400, "No such face"),
    "faces-not-allowed": (403, "You may not search faces here"),
    "not-searchable": (409, "Nothing to search with yet"),
    # ourselves
    "server-error": (500, "Something broke"),
    "busy": (503, "Too much at once"),
    "database-unavailable": (503, "The database is away"),
    "decoder-unavailable": (503, "Images cannot be read now"),
    "decoder-starved": (503, "Reading the image broke off"),
    "file-unreadable": (503, "Reading the image broke off"),
    "interrupted": (503, "Storing took too long"),
    "storage-unavailable": (503, "Files cannot be stored or read"),
    "model-unavailable": (503, "A model is not ready"),
    "no-serving-model": (503, "A model is not ready"),
    "disk-full": (507, "The disk is full"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: a key of PROBLEMS, a sentence that says what to do, and what else the client gets to know."""

    code: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]

    @property
    def title(self) -> str:
        return PROBLEMS[self.code][1]

    def body(self) -> dict[str, Any]:
        return {
            "type": f"urn:visearch:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }
