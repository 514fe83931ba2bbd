"""Every file of tests/hostile.py as an upload meets it: its verdict, how long it took, how much memory.

    python -m benchmarks.hostile [--only TEXT]

Each file is read twice. Once by `catalog.vision.helper.inspect`, which is what an upload waits for, with a child that
is there and has read a small file before; where that runs out of memory or dies, a fresh one is started and asked, too.
And once by a child of its own, so that the peak of memory is the file's; it is looked for while the child works, so
that one that died is counted, too. Beside the corpus, good images of the most pixels allowed, in formats that take the
most memory; and what lies in a folder and is no file or may not be read, by the door through which an import opens it.

Prints WRONG for a verdict that is not as fixed, for more than 512 MB and for more than 5 seconds, and exits 1.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.held import looking, peak
from benchmarks.machine import describe
from benchmarks.own_site import own_folder
from catalog.vision import helper
from catalog.vision.decode import MOST_MEMORY, Limits, check_file
from catalog.vision.errors import DecoderUnavailable, ImageRefused
from catalog.vision.helper import messages
from catalog.vision.helper.children import MOST_SECONDS, Child, Died, Late
from catalog.vision.helper.handing import handed_over
from catalog.vision.helper.messages import INSPECT, Request
from tests.hostile import ACCEPTED, CORPUS, Hostile, put_no_files

LIMITS = Limits()
SIDE = 8000
SMALL = CORPUS[-1].make()
ROW = "{:<16} {:<28} {:>11} {:<18} {:>9} {:>7} {:>8}  {}"
NOBODY = 65534  # who reads nothing that is root's own
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Measured:
    """``verdict``: of an upload, a code or ACCEPTED, after ``waited`` seconds.

    ``seconds``, and ``peak`` in bytes, of the child of its own; None where a file is refused before there is one.
    """

    verdict: str
    waited: float
    seconds: float | None = None
    peak: int | None = None


def large(plugin: str, **options: object) -> Callable[[], bytes]:
    """A good image of as many pixels as are allowed: steps of grey in colour."""

    def make() -> bytes:
        ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
        out = io.BytesIO()
        Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_90), ramp)).save(out, plugin, **options)
        return out.getvalue()

    return make


LARGEST = [
    Hostile("64 megapixels", "baseline.jpg", large("JPEG", quality=70), ACCEPTED),
    Hostile("64 megapixels", "progressive.jpg", large("JPEG", quality=70, progressive=True, subsampling=0), ACCEPTED),
    Hostile("64 megapixels", "colours.png", large("PNG", compress_level=1), ACCEPTED),
    Hostile("64 megapixels", "packed.tiff", large("TIFF", compression="tiff_deflate"), ACCEPTED),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files with this in their class or name")
    only = parser.parse_args().only
    files = [each for each in (*CORPUS, *LARGEST) if only in str(each)]
    print(describe("pillow", "pi-heif"))
    print(ROW.format("class", "file", "bytes", "verdict", "upload ms", "ms", "peak MB", ""))
    found = [_row(each, len(data := each.make()), measure(data, each.name)) for each in files]
    found += [_row(each, 0, measured) for each, measured in no_files()]
    most = max(measured.waited for measured, _ in found)
    peaks = max(measured.peak or 0 for measured, _ in found)
    wrong = sum(is_wrong for _, is_wrong in found)
    print(f"{len(found)} files: at most {most:.2f} s, {peaks >> 20} MB.")
    print(f"{wrong} are not as fixed." if wrong else "All are as fixed.")
    return 1 if wrong else 0


def _row(file: Hostile, size: int, found: Measured) -> tuple[Measured, bool]:
    problems = problems_of(file, found)
    name = Path(ascii(file.name)[1:-1]).name[:28]
    seconds = "" if found.seconds is None else f"{1000 * found.seconds:,.0f}"
    memory = "" if found.peak is None else f"{found.peak >> 20}"
    figures = (f"{size:,}", found.verdict or "accepted", f"{1000 * found.waited:,.0f}", seconds, memory)
    said = "WRONG: " + ", ".join(problems) if problems else ""
    print(ROW.format(file.kind, name, *figures, said), flush=True)
    return found, bool(problems)


def measure(data: bytes, name: str) -> Measured:
    helper.inspect(io.BytesIO(SMALL), None, LIMITS)  # so that one is there, and has loaded what hashes
    began = time.perf_counter()
    verdict = verdict_of(lambda: helper.inspect(io.BytesIO(data), name, LIMITS))
    waited = time.perf_counter() - began
    return Measured(verdict, waited, *_alone(io.BytesIO(data), name))


def verdict_of(read: Callable[[], object]) -> str:
    """``read`` raises what `helper.inspect` does."""
    try:
        read()
    except ImageRefused as refusal:
        return refusal.code
    except DecoderUnavailable:
        return "decoder-unavailable"
    return ACCEPTED


def _alone(file: io.BytesIO, name: str) -> tuple[float | None, int | None]:
    """Seconds and peak of a process that has read one small file before; nothing where it is not asked at all."""
    try:
        check_file(file, name, LIMITS)
    except ImageRefused:
        return None, None
    child = Child()
    with handed_over(io.BytesIO(SMALL)) as descriptor:
        child.ask(Request(INSPECT, LIMITS).to_bytes(), descriptor)  # loads what hashes
    peaks: list[int] = []  # looked for as long as it lives: one that died says nothing any more
    began = time.perf_counter()
    with looking(lambda: peaks.append(peak(child.pid)), LOOK_SECONDS):
        try:
            with handed_over(file) as descriptor:
                messages.loads(child.ask(Request(INSPECT, LIMITS).to_bytes(), descriptor))
        except (ImageRefused, Late, Died, DecoderUnavailable):
            pass
        seconds = time.perf_counter() - began
    child.end()
    return seconds, max(peaks)


def no_files() -> Iterator[tuple[Hostile, Measured]]:
    """Links, pipes and what another account may not read, opened as an import opens the files of a folder."""
    opened = _door()
    with own_folder() as folder:
        (folder / "secret").write_bytes(SMALL)
        fixed = put_no_files(folder, folder / "secret") | {"closed.jpg": "unreadable"}
        (folder / "closed.jpg").write_bytes(SMALL)
        (folder / "closed.jpg").chmod(0)
        for file, code in fixed.items():
            with _as_nobody():
                began = time.perf_counter()
                verdict = verdict_of(lambda path=folder / file: opened(path))  # type: ignore[misc]
                waited = time.perf_counter() - began
            yield Hostile("no file", file, bytes, code), Measured(verdict, waited)


def _door() -> Callable[[Path], object]:
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL"):  # which nobody asks here
        os.environ.setdefault(name, "redis://unused" if name == "REDIS_URL" else "postgres://unused/unused")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "visearch_site.settings")
    import django

    django.setup()
    from catalog.intake import files, paths
    from catalog.models import IntakeLine

    return lambda path: files._open(IntakeLine(path=paths.text_of_path(path))).close()


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root ignores modes."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(me)


def problems_of(file: Hostile, found: Measured) -> list[str]:
    problems = []
    if found.verdict != file.verdict:
        problems.append(f"{file.verdict or 'accepted'} is right")
    if (found.peak or 0) > MOST_MEMORY:
        problems.append(f"more than {MOST_MEMORY >> 20} MB")
    if max(found.waited, found.seconds or 0.0) > MOST_SECONDS:
        problems.append(f"more than {MOST_SECONDS:g} s")
    return problems


if __name__ == "__main__":
    sys.exit(main())
