"""The catalogue's part of the admin: doors only. What they do is in uploads, curation and overview."""

from catalog.admin import collections, images, jobs, log, people, users  # noqa: F401 - they register themselves
