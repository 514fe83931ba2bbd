"""Deleting a job: only one that is over, with its lines and what nobody's file left behind; never its images."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from catalog import claims, storage
from catalog.deletion import remove_doomed_files
from catalog.intake import jobs
from catalog.intake.deleting import delete
from catalog.intake.errors import JobError
from catalog.models import Collection, DoomedFiles, Image, IntakeJob, IntakeLine
from tests.catalog.intake.planned import addresses, plan, stored
from tests.catalog.test_recovery import BEFORE_THE_ROW, UPLOAD
from tests.library import files_in, run_python

pytestmark = pytest.mark.django_db


def test_one_that_still_has_to_do_is_kept(shop: Collection) -> None:
    waits, processes, paused = plan(shop, addresses(1)), plan(shop, []), plan(shop, [])
    stored(processes)
    stored(paused)
    jobs.pause(paused)
    for job in (waits, processes, paused):
        with pytest.raises(JobError, match="Cancel it first"):
            delete(job)
    jobs.cancel(waits)
    IntakeLine.objects.filter(job=waits).update(
        verdict="waiting", claimed_by="a worker", lease_until=timezone.now() + timedelta(minutes=1)
    )
    with pytest.raises(JobError, match="arriving"):
        delete(waits)
    assert IntakeJob.objects.count() == 3


def test_images_of_a_cancelled_job_stay_and_say_what_to_do(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    ready, held = stored(job, status="ready"), stored(job)
    jobs.cancel(job)
    delete(job)
    assert not IntakeLine.objects.exists()
    assert set(Image.objects.values_list("pk", flat=True)) == {ready.pk, held.pk}
    held.refresh_from_db()
    assert (held.status, held.held_for) == ("held", "cancel")
    assert "Process this image again" in held.reason
    with pytest.raises(JobError, match="gone"):
        delete(job)


def test_what_a_worker_was_at_is_not_begun_again_when_its_job_is_gone(shop: Collection) -> None:
    job = plan(shop, addresses(1))
    image = stored(job)
    token, _ = claims.claim(image.pk, 1)
    jobs.cancel(job)
    with pytest.raises(JobError, match="being processed"):
        delete(job)
    claims.release(token, [image.pk], "Waiting: a model is missing.")
    delete(job)
    image.refresh_from_db()
    assert (image.status, image.held_for) == ("held", "cancel")
    assert "Process this image again" in image.reason
    assert claims.claim(image.pk, 1)[1] == []


@pytest.mark.django_db(transaction=True)
def test_the_file_of_an_upload_that_died_goes_after_the_commit(
    shop: Collection, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_python(BEFORE_THE_ROW + UPLOAD, media).returncode == -signal.SIGKILL
    job = IntakeJob.objects.get()
    jobs.cancel(job)
    with pytest.raises(JobError, match="arriving"):
        delete(job)
    job.lines.update(received_at=timezone.now() - timedelta(hours=1))

    def away(*_: object) -> None:
        raise OSError("the storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(storage.originals()), "delete", away)
        delete(job)
    assert len(files_in(media)) == 1
    assert DoomedFiles.objects.count() == 1  # which the sweep and the doctor look at
    assert remove_doomed_files() == 1
    assert files_in(media) == []
