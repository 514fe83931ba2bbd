"""The Annoy engine keeps the contract. Annoy has no wheels: without a compiler there is none, and this skips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from search.engines.annoy_trees import AnnoyTrees
from tests.search.engines.graph_contract import GraphContract

pytest.importorskip("annoy", reason="requirements/annoy.txt is not installed: it needs a compiler")


class TestAnnoyTrees(GraphContract):
    engine = AnnoyTrees()
    weak: ClassVar[Mapping[str, Any]] = {"n_trees": 1}
    hopeless: ClassVar[Mapping[str, Any]] = {"n_trees": 1}
    loses_some: ClassVar[bool] = False  # a vector leads to itself in every tree


@pytest.mark.parametrize("options", [{"n_trees": 0}, {"n_trees": 1.5}, {"m": 16}])
def test_bad_options_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AnnoyTrees.check_options(options)
