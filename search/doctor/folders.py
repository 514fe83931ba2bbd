"""Folders among the indexes that nobody needs: dead drafts, old generations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from catalog.doctor.findings import Check, Finding, Looking, Problem
from search.doctor.indexes import configured_indexes
from search.engines.generations import Generations

LEFT = Problem(
    "index-leftover",
    "a draft whose builder died, or a generation that no reader can need",
    "Run `manage.py doctor --fix`; the next build does it, too.",
    "removes it",
)


def _leftovers(looking: Looking) -> Iterator[Finding]:
    for index in configured_indexes():
        generations = Generations(index.spec.root)
        for path in generations.unneeded():
            yield LEFT.of(str(path), f"{index.model.pipeline}", partial(_sweep, generations, path))


def _sweep(generations: Generations, path: Path) -> bool:
    generations.sweep()
    return not path.exists()


CHECKS = (Check("leftovers of builds", (LEFT,), _leftovers),)
