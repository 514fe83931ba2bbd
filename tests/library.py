"""Short ways to put images into the catalogue that the fakes run (tests.library_fixtures), at once or elsewhere.

Regions of its pipeline `face` are squares of a strong colour, their vectors are that colour (tests.fakes).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection, connections
from PIL.Image import Image as PILImage

from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.processing import process_batch
from catalog.uploads import ImageFacts, receive
from tests.fakes import drawn_image
from tests.stack import ROOT, wait_for

T = TypeVar("T")


def encoded(image: PILImage, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def squares(*what: tuple[int, int, int, str], size: tuple[int, int] = (200, 150)) -> bytes:
    """A PNG with these squares (left, top, side, colour) on grey; other places give another file of the same vector."""
    return encoded(drawn_image(what, size))


def put(collection: Collection, data: bytes, name: str = "image", person: str = "", **facts: Any) -> IntakeLine:
    """Upload, in a job of its own; as a command does, which may give any name, where there is a person."""
    source = IntakeJob.Source.FOLDER if person else IntakeJob.Source.API
    job = IntakeJob.objects.create(collection=collection, source=source)
    return receive(job, io.BytesIO(data), name, ImageFacts(**facts), person_name=person)


def put_image(collection: Collection, data: bytes, name: str = "image", person: str = "", **facts: Any) -> Image:
    """Upload what must be stored; its row, waiting."""
    line = put(collection, data, name, person, **facts)
    assert line.verdict == "stored", line.reason
    assert line.image is not None
    return line.image


def process_all() -> None:
    while process_batch():
        pass


def ready(collection: Collection, data: bytes, name: str = "image", person: str = "", **facts: Any) -> Image:
    """Upload and process what must become ready."""
    image = put_image(collection, data, name, person, **facts)
    process_all()
    image.refresh_from_db()
    assert image.status == "ready", image.reason
    return image


def files_in(folder: Path) -> list[str]:
    """Every file below, also those written aside."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- At the same time -------------------------------------------------------------------------------------------------


class InThread(threading.Thread):
    """Runs on a connection of its own; ``outcome`` waits for it and returns or raises what it did."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the outcome
            self._error = error
        finally:
            connections.close_all()

    def outcome(self) -> Any:
        self.join(60)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def waiting_for_a_lock() -> int:
    """How many do."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


def wait_until_somebody_waits_for_a_lock() -> None:
    wait_for("somebody who waits for a lock", waiting_for_a_lock)


# --- Other processes --------------------------------------------------------------------------------------------------

PREAMBLE = """
import io, os, signal, sys
from pathlib import Path
import django
django.setup()
from catalog import storage, uploads
from catalog.exceptions import StorageUnavailable
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from tests.library import put
from tests.drawn import image_file
shop = Collection.objects.get(name="shop")
"""


def run_python(program: str, media: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` after PREAMBLE in a process of its own, on the database of this test."""
    database = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"].replace("/visearch?", f"/{database}?")
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + program],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "VISEARCH_MEDIA": str(media), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
