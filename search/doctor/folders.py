"""Folders among the indexes that nobody needs: dead drafts, old generations, indexes of models that are gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from django.conf import settings

from catalog.doctor.findings import Check, Finding, Looking, Problem
from catalog.models import EmbeddingModel
from search.doctor.indexes import configured_indexes
from search.engines.generations import DRAFT_PREFIX, FETCH_PREFIX, Generations

_INDEX = re.compile(r"(.+)-([0-9a-f]{12})")  # search.engines.registry.index_for

LEFT = Problem(
    "index-leftover",
    "a draft whose builder died, or a generation that no reader can need",
    "Run `manage.py doctor --fix`; the next build does it, too.",
    "removes it",
)
OF_NOBODY = Problem(
    "index-of-nobody",
    "an index folder of an embedding model that is not in the database",
    "Run `manage.py doctor --fix`.",
    "removes it: an index is built from the database",
)


def _leftovers(looking: Looking) -> Iterator[Finding]:
    for index in configured_indexes():
        generations = Generations(index.spec.root)
        for path in generations.unneeded():
            yield LEFT.of(str(path), f"{index.model.pipeline}", partial(_sweep, generations, path))


def _sweep(generations: Generations, path: Path) -> bool:
    generations.sweep()
    return not path.exists()


def _of_nobody(looking: Looking) -> Iterator[Finding]:
    """Folders are listed before the rows are read: that of a model which was registered meanwhile is not seen yet."""
    root = Path(settings.VISEARCH_INDEXES_DIR)
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:  # nothing was ever built
        return
    for path in folders:
        match = _INDEX.fullmatch(path.name)
        if match and _is_nobodys(match[1], match[2]):
            yield OF_NOBODY.of(str(path), "no embedding model", partial(_remove, path, match[1], match[2]))


def _is_nobodys(pipeline: str, fingerprint: str) -> bool:
    return not EmbeddingModel.objects.filter(pipeline=pipeline, fingerprint__startswith=fingerprint).exists()


def _remove(path: Path, pipeline: str, fingerprint: str) -> bool:
    """False while a draft in it is being written, by a builder that has not noticed yet that its model is gone."""
    if not _is_nobodys(pipeline, fingerprint):
        return True
    generations = Generations(path)
    drafts = {each for each in path.iterdir() if each.is_dir() and each.name.startswith((DRAFT_PREFIX, FETCH_PREFIX))}
    if drafts - set(generations.unneeded()):
        return False
    shutil.rmtree(path)
    return True


CHECKS = (
    Check("leftovers of builds", (LEFT,), _leftovers),
    Check("indexes of models that are gone", (OF_NOBODY,), _of_nobody),
)
