"""What `benchmarks.growth` prints and draws is what was measured."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.growth import draw, problems, table
from benchmarks.growth_steps import Answered, followed

MS = {"p50": 0.2, "p95": 0.5, "p99": 0.9}
SCOPE = {"kind": "1 %", "size": 100, "fewest": 20, "recall": 1.0, "strategies": {"scan": 200}, "problems": [], **MS}


def grown(rows: int) -> dict[str, Any]:
    deltas = [
        {
            "new": new,
            "first_ms": 9.0,
            "own_mb": 1.0,
            "newest_asked": 20,
            "newest_found": 20,
            "ms": dict.fromkeys(("query", "generation", "look", "scan"), MS),
        }
        for new in (0, rows // 20)
    ]
    return {
        "rows": rows,
        "engine": "nmslib_hnsw",
        "options": {"m": 16},
        "database_bytes_a_row": {"catalog_image": 400.0, "catalog_embedding": 800.0},
        "build": {
            "seconds": rows / 1_000,
            "rows_per_second": 1_000.0,
            "steps": {"reading": 1.0, "building": 2.0},
            "builder_mb": 150.0,
            "child_mb": 300.0,
            "files": {"vectors.npy": 512 * rows / 1e6, "ids.npy": 8 * rows / 1e6},
            "measured": {"ef_search": 48},
        },
        "open": {"open_seconds": 0.5, "own_mb": 70.0, "mapped_mb": 50.0, "tuned": {"recall": 0.985, **MS}},
        "serve": {
            "scopes": [SCOPE],
            "rebuild_due_at": rows // 20,
            "delta": deltas,
            "follow": {
                "seconds": 0.25,
                "other_queries": 90,
                "other_queries_longest_ms": 12.0,
                "own_mb_before": 70.0,
                "own_mb_most": 140.0,
            },
        },
    }  # fmt: skip


def test_bytes_are_of_a_row() -> None:
    lines = "\n".join(table(grown(10_000)))
    assert "520 bytes a row: vectors.npy 512.0, ids.npy 8.0" in lines
    assert "1,200 bytes a row: catalog_image 400" in lines
    assert "SHORT" not in lines


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda serve: serve["scopes"][0].update(problems=["got 3 of 20"]), "in 1 %: got 3 of 20"),
        (lambda serve: serve["delta"][1].update(newest_found=19), "of 20 new embeddings 19 are found"),
    ],
)
def test_what_falls_short_is_said(change: Any, said: str) -> None:
    size = copy.deepcopy(grown(10_000))
    change(size["serve"])
    assert problems(size) == [said]
    assert f"SHORT {said}" in list(table(size))


def test_the_query_that_opens_a_generation_is_told_from_those_beside_it() -> None:
    """One thread opens the new one for 2 s, the other is answered by the old one meanwhile."""
    answers = [
        Answered(0, 9.0, 9.1, "old"),
        Answered(1, 9.0, 9.1, "old"),
        Answered(1, 10.1, 10.15, "old"),
        Answered(1, 10.2, 10.3, "old"),
        Answered(0, 10.1, 12.1, "new"),
        Answered(1, 12.2, 12.9, "new"),
    ]
    said = followed(answers, "new", moment=10.0)
    assert said["seconds"] == pytest.approx(2.1)
    assert said["opening_query_ms"] == pytest.approx(2_000)
    assert (said["other_queries"], said["other_queries_longest_ms"]) == (2, pytest.approx(100))
    assert said["usual_p50_ms"] == pytest.approx(100)


def test_the_figure_is_an_image(tmp_path: Path) -> None:
    draw([grown(rows) for rows in (1_000, 10_000)], tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as image:
        assert image.width > image.height > 300
