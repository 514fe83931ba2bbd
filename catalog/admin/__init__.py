"""The catalogue's part of the admin: doors only. What they do is in uploads, curation and overview."""

from catalog.admin import (  # noqa: F401 - they register themselves
    collections,
    discarded,
    images,
    jobs,
    log,
    near_duplicates,
    people,
    users,
)
