"""Static files by names that hold their content's hash, so that browsers may keep them for good."""

from __future__ import annotations

from typing import Any

from whitenoise.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]


class StaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """A file that was not collected keeps its plain name: a page without its style is better than none."""

    manifest_strict = False

    def hashed_name(self, name: str, *args: Any, **options: Any) -> str:
        try:
            return str(super().hashed_name(name, *args, **options))
        except ValueError:
            return name
