"""What more vectors cost with the default engine: building, memory, disk, opening, searching, and what is newer.

    python -m benchmarks.growth [--sizes 10000 100000 1000000] [--json FILE] [--figure FILE.png]

A million take about half an hour on two cores, 3 GB of memory and 6 GB of disk. For each size: servers and a database
of its own, so many images with a face each whose embeddings are clustered (benchmarks/clustered.py), and

1. the build, as a worker does it: from the database to the published generation (`search.indexing.rebuild_index`);
2. a process that opens it and asks 200 queries at the width that the build tuned, compared with exact search;
3. a process that serves (`search.serving`): asked for 20 within 1 % and 0.01 % of the rows, while a generation is
   published under its queries, and with 1,000, 10,000 and so many new embeddings as make a rebuild due.

Milliseconds are of single queries, one after another, medians over five rounds. Says SHORT and exits 1 where a scope
is not filled, its recall is too low, or a new embedding is not found at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.pyplot as plt
from tqdm import tqdm

from benchmarks.engine_runs import ROOT, Answer, Case, run
from benchmarks.machine import describe
from tests.stack import Stack, new_stack
from visearch_site.local.servers import Servers, local_servers

SIZES, DIMENSION = (10_000, 100_000, 1_000_000), 128
SPREAD = 0.8  # of clouds that nearly touch: among them a graph must search the wider, the more rows it has
STEP = "import django; django.setup(); from benchmarks.growth_steps import main; main()"
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "visearch_site.settings",
    "SECRET_KEY": "only for this run",
    "VISEARCH_HTTPS": "0",
    "VISEARCH_FACE_METRIC": "l2",
    "VISEARCH_ENGINE": "default",
    "VISEARCH_ENGINE_OPTIONS": "{}",
    "LOG_LEVEL": "ERROR",
}
TABLES = ("catalog_image", "catalog_region", "catalog_embedding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of vectors")
    parser.add_argument("--json", type=Path, help="where to keep the figures, after each size")
    parser.add_argument("--figure", type=Path, help="draws build, memory and p95 over the sizes (.png, .svg)")
    options = parser.parse_args()
    machine = f"{describe('numpy', 'nmslib', 'django', 'psycopg')}, load before: {os.getloadavg()[0]:.2f}"
    print(machine)
    grown: list[Answer] = []
    with tempfile.TemporaryDirectory(prefix="visearch-growth-") as name:
        folder = Path(name)
        (folder / "servers").mkdir()
        with local_servers(folder / "servers") as servers:
            for rows in options.sizes:
                grown.append(measured(servers, folder, rows))
                print("\n".join(table(grown[-1])), flush=True)
                if options.json:
                    options.json.write_text(json.dumps({"machine": machine, "sizes": grown}, indent=2) + "\n")
    if options.figure:
        draw(grown, options.figure)
    sys.exit(any(problems(each) for each in grown))


def measured(servers: Servers, folder: Path, rows: int) -> Answer:
    """All figures of one size, as JSON holds them."""
    with new_stack(servers, folder, f"rows{rows}", **SETTINGS) as stack:
        stack.manage("migrate")
        with tqdm(total=4, desc=f"{rows:,} vectors, steps", leave=False, disable=None) as bar:
            case = Case(**step(stack, bar, "seed", {"rows": rows, "dimension": DIMENSION, "spread": SPREAD}))
            stored = {table: _bytes(stack, table) / rows for table in TABLES}
            built = step(stack, bar, "build", asdict(case))
            opened = run("ask", case)
            bar.update()
            served = step(stack, bar, "serve", asdict(case))
    return {
        "rows": rows,
        "engine": case.name,
        "options": case.options,
        "database_bytes_a_row": stored,
        "build": built,
        "open": opened,
        "serve": served,
    }


def step(stack: Stack, bar: tqdm[NoReturn], name: str, request: Mapping[str, Any]) -> Answer:
    """Of benchmarks.growth_steps, in a process of its own whose progress is seen. Exits where it fails."""
    command = [sys.executable, "-c", STEP, name, json.dumps(request)]
    ended = subprocess.run(command, cwd=ROOT, env=stack.env, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"The step {name} failed with exit code {ended.returncode}.")
    bar.update()
    answer: Answer = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer


def _bytes(stack: Stack, table: str) -> int:
    """With its indexes."""
    [(size,)] = stack.sql("SELECT pg_total_relation_size(%s)", table)
    return int(size)


# --- shown ---------------------------------------------------------------------------------------------------------


def table(size: Answer) -> Iterator[str]:
    rows, build, opened = size["rows"], size["build"], size["open"]
    yield f"\n{rows:,} x {DIMENSION}, {size['engine']} {size['options']}"
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in build["steps"].items())
    yield f"  build     {build['seconds']:.1f} s, {build['rows_per_second']:,.0f} rows/s: {steps}"
    yield f"  memory    of the builder {build['builder_mb']:,.0f} MB, of its largest child {build['child_mb']:,.0f} MB"
    yield f"  index     {_files(build['files'], rows)}"
    bytes_a_row = size["database_bytes_a_row"]
    of_tables = ", ".join(f"{name} {each:.0f}" for name, each in bytes_a_row.items())
    yield f"  database  {sum(bytes_a_row.values()):,.0f} bytes a row: {of_tables}"
    memory = f"own {opened['own_mb']:,.0f} MB, mapped {opened['mapped_mb']:,.0f} MB"
    yield f"  open      {opened['open_seconds']:.2f} s, {memory}"
    tuned = opened["tuned"]
    width = f"ef_search {build['measured'].get('ef_search')}"
    yield f"  search    recall@10 {tuned['recall']:.4f} at {width}: {_ms(tuned)}"
    yield from _of_serving(size["serve"])
    yield from (f"SHORT {problem}" for problem in problems(size))


def _of_serving(serve: Answer) -> Iterator[str]:
    for scope in serve["scopes"]:
        by = ", ".join(f"{name} {count}" for name, count in scope["strategies"].items())
        found = f"asked 20 got {scope['fewest']}, recall {scope['recall']:.4f}"
        yield f"  in {scope['kind']:<7}{scope['size']:,} rows, {found}: {_ms(scope)}, by {by}"
    for delta in serve["delta"]:
        of, due = delta["ms"], " (rebuild due)" if delta["new"] == serve["rebuild_due_at"] else ""
        parts = ", ".join(f"{name} {of[name]['p50']:.3f}" for name in ("generation", "look", "scan"))
        first = f"first {delta['first_ms']:.0f} ms, {delta['own_mb']:+.0f} MB"
        yield f"  new       {delta['new']:,}{due}: {first}, then {_ms(of['query'])}; p50 of {parts}"
    follow = serve["follow"]
    others = f"{follow['other_queries']} other queries meanwhile, longest {follow['other_queries_longest_ms']:.0f} ms"
    memory = f"own {follow['own_mb_before']:,.0f} MB, at most {follow['own_mb_most']:,.0f} MB"
    yield f"  follow    {follow['seconds']:.2f} s after publication; {others}; {memory}"


def problems(size: Answer) -> list[str]:
    found = [f"in {scope['kind']}: {problem}" for scope in size["serve"]["scopes"] for problem in scope["problems"]]
    for delta in size["serve"]["delta"]:
        if delta["newest_found"] < delta["newest_asked"]:
            found.append(f"of {delta['newest_asked']} new embeddings {delta['newest_found']} are found")
    return found


def _files(files: Mapping[str, float], rows: int) -> str:
    each = ", ".join(
        f"{name} {1e6 * size / rows:.1f}" for name, size in sorted(files.items(), key=lambda file: -file[1])
    )
    total = sum(files.values())
    return f"{total:,.1f} MB, {1e6 * total / rows:,.0f} bytes a row: {each}"


def _ms(of: Mapping[str, float]) -> str:
    return f"p50 {of['p50']:.3f} ms, p95 {of['p95']:.3f} ms"


def draw(grown: Sequence[Answer], path: Path) -> None:
    """Seconds, megabytes and milliseconds over the sizes, both axes logarithmic."""
    rows = [size["rows"] for size in grown]
    lines: dict[str, dict[str, list[float]]] = {
        "build, seconds": {
            "all": [size["build"]["seconds"] for size in grown],
            "graph alone": [size["build"]["steps"].get("building", 0.0) for size in grown],
        },
        "memory, MB": {
            "largest process of a build": [
                max(size["build"][key] for key in ("child_mb", "builder_mb")) for size in grown
            ],
            "a reader's own": [size["open"]["own_mb"] for size in grown],
            "mapped from files besides": [size["open"]["mapped_mb"] for size in grown],
        },
        "a query, p95 in ms": {
            "the index alone": [size["open"]["tuned"]["p95"] for size in grown],
            "a process that serves, rebuild due": [_due(size)["ms"]["query"]["p95"] for size in grown],
            **{
                f"20 within {kind}": [
                    scope["p95"] for size in grown for scope in size["serve"]["scopes"] if scope["kind"] == kind
                ]
                for kind in [scope["kind"] for scope in grown[0]["serve"]["scopes"]]
            },
        },
    }
    figure, panels = plt.subplots(1, len(lines), figsize=(13, 4.2), layout="constrained")
    for panel, (label, series) in zip(panels, lines.items(), strict=True):
        for name, values in series.items():
            panel.loglog(rows, values, marker="o", label=name)
        panel.set(xlabel=f"vectors of {DIMENSION} dimensions", ylabel=label)
        panel.grid(True, which="both", alpha=0.25)
        panel.legend(fontsize=8, framealpha=0.3)
    figure.suptitle(f"{grown[0]['engine']}, recall@10 as tuned", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _due(size: Answer) -> Answer:
    due: Answer = next(each for each in size["serve"]["delta"] if each["new"] == size["serve"]["rebuild_due_at"])
    return due


if __name__ == "__main__":
    main()
