"""What search adds to the admin. Imported by Django once apps are ready."""

from search.admin import evaluations, indexes, models  # noqa: F401 - they register themselves
