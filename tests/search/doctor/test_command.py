"""`manage.py doctor`: what it writes, and the exit status that cron sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings
from uuid_utils.compat import uuid7

from catalog import storage
from catalog.models import Collection, DoomedFiles, Embedding, Image, IntakeJob, IntakeLine
from search.doctor.checks import PROBLEMS
from search.doctor.report import Report
from search.indexing import rebuild_due_indexes
from search.management.commands import doctor as command
from tests.cast import make_image
from tests.doctor import grow_old
from tests.library import InThread, files_in, process_all, put_image, ready, squares
from tests.stack import ROOT

pytestmark = pytest.mark.django_db
RED = squares((20, 30, 40, "red"))
NOWHERE = "postgres://nobody:secret@/nothing?host=/nonexistent"


def doctor(*arguments: str) -> tuple[int, str]:
    """Exit status and what was written."""
    out = StringIO()
    try:
        call_command("doctor", *arguments, stdout=out, stderr=out)
    except CommandError as error:
        return error.returncode, out.getvalue()
    return 0, out.getvalue()


def as_json(*arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(doctor("--json", *arguments)[1])
    return said


@pytest.fixture
def lost(shop: Collection) -> list[Image]:
    """Images one of which lacks its original, and one a rendition."""
    images = [ready(shop, RED), ready(shop, squares((20, 30, 40, "blue")))]
    storage.originals().delete(storage.original_key(images[0].pk, "PNG"))
    storage.renditions().delete(storage.rendition_key(images[1].pk, 320))
    return images


@pytest.mark.parametrize("arguments", [(), ("--fix", "--deep"), ("--json",)])
def test_a_healthy_site_is_well_and_nothing_of_it_changes(
    shop: Collection, media: Path, arguments: tuple[str, ...]
) -> None:
    ready(shop, RED)
    put_image(shop, squares((20, 30, 40, "blue")))
    rebuild_due_indexes()
    before = files_in(media)
    status, said = doctor(*arguments)
    assert status == 0, said
    assert "All is well." in said or json.loads(said)["status"] == 0
    assert files_in(media) == before


def test_what_is_found_is_left_without_fix(lost: list[Image]) -> None:
    status, said = doctor()
    assert status == 1
    table = said.splitlines()[-2:]
    assert [line.split()[:4] for line in table] == [
        ["original-missing", "1", "0", "1"],
        ["rendition-missing", "1", "0", "1"],
    ]
    assert "Restore it from the backup" in table[0]
    assert str(lost[0].pk) in said


def test_fix_mends_what_is_safe_names_it_and_leaves_the_rest(lost: list[Image]) -> None:
    status, said = doctor("--fix")
    assert status == 1
    assert "[mended: renders it from the original]" in said
    assert as_json("--fix")["counts"].keys() == {"original-missing"}
    Image.objects.get(pk=lost[0].pk).delete()
    assert doctor("--fix")[0] == 0


def test_json_says_the_same(lost: list[Image]) -> None:
    said = as_json()
    assert said["status"] == 1
    assert {code: count["found"] for code, count in said["counts"].items()} == {
        "original-missing": 1,
        "rendition-missing": 1,
    }
    assert [(each["subject"], each["fixable"]) for each in said["findings"]] == [
        (str(lost[0].pk), False),
        (str(lost[1].pk), True),
    ]
    assert said["could_not_look"] == []


def test_of_each_kind_a_few_are_written_out_and_all_are_counted(shop: Collection) -> None:
    ready(shop, RED)
    for _ in range(25):
        make_image(shop, status="failed", reason="none")
    _, said = doctor()
    assert len([line for line in said.splitlines() if line.startswith("original-missing  ")]) == 12
    assert ["original-missing", "25", "0", "25"] in [line.split()[:4] for line in said.splitlines()]
    _, all_of_it = doctor("-v", "2")
    assert len([line for line in all_of_it.splitlines() if line.startswith("original-missing  ")]) == 26


def test_all_of_it_is_written_and_held_only_for_json(lost: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """A large site may have a million of a kind."""
    made = []

    class Watched(Report):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(command, "Report", Watched)
    _, text = doctor("-v", "2")
    assert "rendition-missing  " in text
    assert (made[0].found.total(), made[0].findings) == (2, [])
    assert len(as_json("-v", "2")["findings"]) == 2


def test_what_cannot_be_looked_at_is_said_whatever_else_is_found(lost: list[Image], media: Path) -> None:
    (media / "originals").rename(media / "elsewhere")
    status, said = doctor("--fix")
    assert status == 2
    assert "COULD NOT LOOK at originals and renditions of images: The originals are not there at all" in said
    said_in_json = as_json("--fix", "--delete-strays")
    assert said_in_json["status"] == 2
    assert {each["about"] for each in said_in_json["could_not_look"]} == {
        "originals and renditions of images",
        "files without an image",
    }


def test_strays_are_never_deleted_by_a_slip(shop: Collection) -> None:
    assert doctor("--delete-strays")[0] == 2


@pytest.mark.django_db(transaction=True)
def test_two_that_mend_at_once_hinder_nobody(shop: Collection, media: Path) -> None:
    images = [ready(shop, squares((20 + number, 30, 40, "red"))) for number in range(4)]
    for image in images:
        storage.renditions().delete(storage.rendition_key(image.pk, 320))
        Embedding.objects.filter(region__image=image, region__pipeline="face").delete()
    DoomedFiles.objects.create(image_id=uuid7(), format="PNG")
    IntakeLine.objects.create(job=IntakeJob.objects.all()[0], source="a", reserved_key="aa/a.jpg")
    grow_old()
    Image.objects.update(processed_at=timezone.now())
    start = threading.Barrier(3)

    def mend() -> tuple[int, str]:
        start.wait()
        return doctor("--fix")

    both = [InThread(mend), InThread(mend)]
    start.wait()
    process_all()
    assert [thread.outcome()[0] for thread in both] == [0, 0]
    process_all()
    assert doctor("--deep") == (0, "All is well.\n")
    assert len(files_in(media)) == 12


def test_settings_that_cannot_work_keep_it_from_looking(shop: Collection, settings: Settings) -> None:
    settings.VISEARCH_EMBEDDERS = {**settings.VISEARCH_EMBEDDERS, "image-colours": {"BACKEND": 5}}
    status, said = doctor()
    assert status == 2
    assert "COULD NOT LOOK at networks: ImproperlyConfigured: VISEARCH_EMBEDDERS['image-colours']" in said


def test_a_database_that_is_away_is_2_for_cron() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": NOWHERE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "COULD NOT LOOK at images that wait: OperationalError" in done.stdout
    assert "Traceback" not in done.stderr


def test_every_kind_of_finding_is_documented_once_and_says_what_to_do() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    codes = [problem.code for problem in PROBLEMS]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if f"`{code}`" not in text] == []
    assert all(problem.remedy for problem in PROBLEMS)
