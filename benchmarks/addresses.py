"""What becomes of hostile addresses, and of good ones beside them: the table of tests/hostile_addresses.py, measured.

::

    python -m benchmarks.addresses [--only TEXT]

Each address is put in: a list of all of them, then a job with a line for each that the list takes, which is fetched
until nothing waits, on a Postgres and in a media folder of its own, from servers on this machine. And each is fetched
once by the guard alone. A row says its name, what the guard answers (``fetched``, or the code of the refusal or
failure), milliseconds and bytes received of that (headers included, before decompression), what the line became (``not
taken``: the list is refused and names it), how often it was tried, and its reason.

Exits 1 where a verdict or a reason is not the one that is fixed, where the internal server heard anything at all, or
where the media folder holds another file than those of good addresses.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import describe
from benchmarks.own_site import own_folder, own_site
from catalog.fetching.errors import FetchFailed, FetchRefused
from catalog.fetching.guard import Attempt
from tests.hostile_addresses import CASES, FETCHED, Case
from tests.hostile_servers import World, hostile_world

ROW = "{:<42} {:<22} {:>6} {:>8}  {:<10} {:>5}  {}"


@dataclass(frozen=True, slots=True)
class Alone:
    """Of a fetch without a line: its verdict, what it cost, and whether that is as fixed."""

    verdict: str
    milliseconds: float
    bytes_read: int
    is_as_fixed: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="addresses whose name has this in it")
    only = parser.parse_args().only
    cases = [case for case in CASES if only in case.name]
    with own_folder() as folder, own_site(folder), hostile_world(folder) as world:
        print(describe("django", "psycopg", "urllib3"))
        good = measure(cases, world)
        kept = {path.read_bytes() for path in (folder / "var" / "media").rglob("*") if path.is_file()}
    strange = len(kept - {case.body for case in cases if case.verdict == FETCHED})
    heard = world.secret.connections
    print(f"\n{good} of {len(cases)} as fixed; the internal server heard {heard} connections;")
    print(f"{len(kept)} files are kept, {strange} of them of no good address")
    return 0 if good == len(cases) and not heard and not strange else 1


def measure(cases: Sequence[Case], world: World) -> int:
    """Prints the table; of how many all is as fixed."""
    from catalog.models import Collection
    from tests.hostile_lines import problems_of, put_in

    found = put_in(Collection.objects.create(name="shop"), world, cases)
    print(ROW.format("address", "guard", "ms", "bytes", "line", "tries", "reason"))
    return sum(_show(case, _alone(case, world), line, problems_of(case, line)) for case, line in found.items())


def _alone(case: Case, world: World) -> Alone:
    attempt = Attempt(world.rules(case.seconds))
    began = time.perf_counter()
    try:
        with attempt.fetch(world.url(case)) as fetched:
            verdict, is_as_fixed = FETCHED, case.verdict == FETCHED and fetched.file.read() == case.body
    except (FetchRefused, FetchFailed) as error:
        verdict, is_as_fixed = error.code, error.code == case.verdict and case.says in str(error)
    return Alone(verdict, (time.perf_counter() - began) * 1000, attempt.bytes_read, is_as_fixed)


def _show(case: Case, alone: Alone, line: Any, problems: Sequence[str]) -> bool:
    problems = [*problems, *([] if alone.is_as_fixed else [f"the guard must say {case.verdict} {case.says}"])]
    figures = (alone.verdict, f"{alone.milliseconds:.0f}", f"{alone.bytes_read:,}")
    said = " ".join(ascii(line.reason)[1:-1].split())
    mark = f"   NOT AS FIXED: {', '.join(problems)}" if problems else ""
    print(ROW.format(case.name, *figures, line.verdict, line.attempts or "", f"{said}{mark}"))
    return not problems


if __name__ == "__main__":
    sys.exit(main())
