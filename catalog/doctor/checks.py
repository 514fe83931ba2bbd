"""What the doctor looks at in the catalogue, quickest first."""

from __future__ import annotations

from catalog.doctor import files, models, regions, strays, waiting

CHECKS = (*models.CHECKS, *waiting.CHECKS, *regions.CHECKS, *files.CHECKS, *strays.CHECKS)
