"""Which rows a scope allows: by its definition, row for row."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from search.engines.allowed import Allowed, ScopedRows
from search.engines.types import EVERYWHERE, Scope

IDS = 7 + 5 * np.arange(400, dtype=np.int64)
COLLECTIONS = np.random.default_rng(0).choice(np.array([-5, 2, 2**62]), 400)

SCOPES = {
    "everything": EVERYWHERE,
    "a collection": Scope(collections=np.array([2])),
    "two collections, one twice": Scope(collections=np.array([2**62, -5, 2**62])),
    "all collections": Scope(collections=np.array([2, -5, 2**62])),
    "collections that are not there": Scope(collections=np.array([1, 3, 2])),
    "no collection": Scope(collections=np.empty(0, dtype=np.int64)),
    "ids": Scope(ids=np.array([7, 12, 1_002])),
    "ids out of order, one twice": Scope(ids=np.array([1_002, 7, 1_002])),
    "ids that are not there": Scope(ids=np.array([-1, 8, 12, 10**9])),
    "all ids": Scope(ids=IDS),
    "no ids": Scope(ids=np.empty(0, dtype=np.int64)),
    "both": Scope(collections=np.array([2, -5]), ids=IDS[::3]),
}


def rows_of(allowed: Allowed) -> NDArray[np.int64]:
    rows = allowed.rows()
    return np.arange(allowed.count) if rows is None else np.sort(rows)


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_a_scope(scope: Scope) -> None:
    allowed = ScopedRows(IDS, COLLECTIONS).allowed(scope)
    inside = np.ones(400, dtype=bool)
    if scope.collections is not None:
        inside &= np.isin(COLLECTIONS, scope.collections)
    if scope.ids is not None:
        inside &= np.isin(IDS, scope.ids)
    assert rows_of(allowed).tolist() == np.flatnonzero(inside).tolist()
    assert allowed.count == inside.sum()
    some = np.random.default_rng(1).permutation(400)[:90]
    assert allowed.among(some).tolist() == some[inside[some]].tolist()


def test_of_no_rows_nothing_is_allowed() -> None:
    none = np.empty(0, dtype=np.int64)
    for scope in SCOPES.values():
        allowed = ScopedRows(none, none).allowed(scope)
        assert allowed.count == len(rows_of(allowed)) == len(allowed.among(none)) == 0


def test_what_covers_everything_names_no_row() -> None:
    for name in ("everything", "all collections", "all ids"):
        assert ScopedRows(IDS, COLLECTIONS).allowed(SCOPES[name]).rows() is None
