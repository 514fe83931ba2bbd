"""All that `manage.py doctor` looks at."""

from __future__ import annotations

from catalog.doctor import checks as of_catalog
from catalog.doctor.findings import Problem
from search.doctor import folders, indexes, nobody

CHECKS = (*of_catalog.CHECKS, *indexes.CHECKS, *folders.CHECKS, *nobody.CHECKS)
PROBLEMS: tuple[Problem, ...] = tuple(problem for check in CHECKS for problem in check.problems)
