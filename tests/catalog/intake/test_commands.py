"""import_urls, import_csv and intake_job: what they say, and that they do it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from catalog.intake import jobs
from catalog.intake.fetching_lines import take_in
from catalog.management import following
from catalog.models import Collection, Image, IntakeJob, IntakeLine, NearDuplicate
from catalog.overview import JobProgress, progress_of
from tests.cast import make_image
from tests.catalog.intake.planned import addresses, plan, verdicts
from tests.catalog.intake.web import Web
from tests.drawn import image_file
from tests.library import InThread, process_all
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.05)


def run(*command: object) -> str:
    """What a command says on both streams."""
    out = io.StringIO()
    call_command(*map(str, command), stdout=out, stderr=out)
    return out.getvalue()


def written(folder: Path, text: str, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- import_urls ------------------------------------------------------------------------------------------------------


def test_a_list_is_fetched_followed_and_not_fetched_again(registered: None, web: Web, tmp_path: Path) -> None:
    good, bad = web.put("/a.jpg", image_file()), f"http://{web.host}/nothing.jpg"
    path = written(tmp_path, f"# mine\n{good}\n{bad}\n{good}\n")
    worker = InThread(_work)
    said = run("import_urls", path, "--collection", "shop", "--follow")
    worker.outcome()
    assert "New collection 'shop': private, image" in said
    assert "2 planned" in said
    assert "line 4" in said and "stands in line 2 already" in said
    assert "1 ready, 1 refused" in said
    assert f"refused {bad}: " in said
    assert "2 planned" in run("import_urls", path, "--collection", "shop")
    take_in(20)
    assert (web.asked["/a.jpg"], web.asked["/nothing.jpg"]) == (1, 2)


def _work() -> None:
    """As the workers of both queues would."""
    for _ in range(200):
        take_in(5)
        process_all()
        if IntakeJob.objects.exists() and not IntakeLine.objects.filter(verdict="waiting").exists():
            process_all()
            return


def test_a_bad_list_makes_neither_job_nor_collection(registered: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"(?s)line 2: .*Nothing was stored"):
        run("import_urls", written(tmp_path, "http://a.test/1\nnothing\n"), "--collection", "shop")
    assert not IntakeJob.objects.exists()
    assert not Collection.objects.exists()
    with pytest.raises(CommandError, match="cannot be read"):
        run("import_urls", tmp_path / "missing", "--collection", "shop")


def test_ctrl_c_leaves_the_job_running(shop: Collection, tmp_path: Path) -> None:
    program = (
        # A shell that starts this in the background has it ignore Ctrl-C.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import django; django.setup()\n"
        "from catalog.management import following\n"
        "look = following.progress_of\n"
        "following.progress_of = lambda job: (print('looking', flush=True), look(job))[1]\n"
        "from django.core.management import call_command\n"
        "call_command('import_urls', '-', '--collection', 'shop', '--follow')\n"
    )
    url = os.environ["DATABASE_URL"].replace("/visearch?", f"/{connection.settings_dict['NAME']}?")
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write("http://a.test/1\n")
    process.stdin.close()
    while "looking" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(60) == following.INTERRUPTED
    job = IntakeJob.objects.get()
    assert f"The job goes on without this command. To follow it again: manage.py intake_job {job.pk} --follow" in said
    assert (job.state, job.name) == ("running", "standard input")
    process.stdout.close()
    process.stderr.close()


def test_a_job_that_is_followed_late_says_its_own_pace(
    shop: Collection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    job, now = plan(shop, addresses(5)), timezone.now()
    IntakeJob.objects.filter(pk=job.pk).update(created_at=now - timedelta(hours=1))
    done = IntakeLine.objects.filter(pk__in=job.lines.order_by("pk")[:4])
    done.update(verdict="duplicate", ended_at=now - timedelta(minutes=30))
    run("intake_job", job.pk, "--follow")
    assert re.search(r" 4/5$", capsys.readouterr().err.strip())  # nothing came lately, so nobody knows
    done.update(ended_at=now)
    run("intake_job", job.pk, "--follow")
    assert re.search(r" 4/5, 0\.03\d* image/s, 00:\d\d left$", capsys.readouterr().err.strip())


def test_who_follows_a_paused_job_is_told_once(
    shop: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "\n".join(addresses(2)))
    run("import_urls", path, "--collection", "shop")
    job = IntakeJob.objects.get()
    jobs.pause(job)
    assert "It is paused: " in run("import_urls", path, "--collection", "shop")
    follower, said = InThread(lambda: run("intake_job", job.pk, "--follow")), []

    def heard() -> bool:
        said.append(capsys.readouterr().out)
        return following.PAUSED in "".join(said)

    wait_for("its words", heard)
    jobs.cancel(job)
    follower.outcome()
    heard()
    assert "".join(said).count(following.PAUSED) == 1


def test_who_follows_looks_at_most_a_tenth_of_the_time(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    job, now, rests = plan(shop, addresses(2)), [0.0], []

    def look(mine: IntakeJob) -> JobProgress:
        now[0] += 7.0  # what it takes with very many lines
        return progress_of(mine)

    def rest(seconds: float) -> None:
        rests.append(seconds)
        jobs.cancel(job)

    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=rest))
    monkeypatch.setattr(following, "progress_of", look)
    run("intake_job", job.pk, "--follow")
    assert rests == [70.0]


# --- import_csv -------------------------------------------------------------------------------------------------------


def test_a_csv_file_is_checked_then_taken_in_then_nothing(shop: Collection, web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_file())
    url = web.put("/b.jpg", image_file((9, 9, 9)))
    path = written(tmp_path, f"path,url,label\na.jpg,,one\n,{url},two\n", "list.csv")
    said = run("import_csv", path, "--collection", "shop", "--dry-run")
    assert "shop: 2 images" in said and "Nothing was stored (--dry-run)" in said
    assert not IntakeJob.objects.exists()
    worker = InThread(_work)
    said = run("import_csv", path, "--collection", "shop", "--follow")
    worker.outcome()
    assert "shop: 1 stored, 0 duplicate, 0 refused" in said
    assert "2 ready" in said
    assert set(Image.objects.values_list("label", flat=True)) == {"one", "two"}
    assert "0 stored, 1 duplicate" in run("import_csv", path, "--collection", "shop")
    assert sorted(verdict for verdict, _ in verdicts(IntakeJob.objects.latest("id")).values()) == ["duplicate"] * 2
    assert web.asked["/b.jpg"] == 1


def test_a_bad_csv_file_stores_nothing(shop: Collection, tmp_path: Path) -> None:
    path = written(tmp_path, "path,url,colour\na.jpg,,red\n", "list.csv")
    with pytest.raises(CommandError, match=r"(?s)line 1: Unknown column: colour.*Nothing was stored"):
        run("import_csv", path, "--collection", "shop")
    with pytest.raises(CommandError, match="no collection 'nowhere'"):
        run("import_csv", path, "--collection", "nowhere")
    assert not IntakeJob.objects.exists()


# --- intake_job -------------------------------------------------------------------------------------------------------


def test_without_a_job_the_newest_are_listed(shop: Collection) -> None:
    assert "There are no jobs." in run("intake_job")
    first, second = plan(shop, addresses(3)), plan(shop, addresses(2))
    first.lines.update(verdict="duplicate")
    said = run("intake_job").splitlines()
    assert [line.split()[0] for line in said] == [str(second.pk), str(first.pk)]
    assert said[0].endswith("running  List of addresses into shop: 2 of 2 to do")
    assert said[1].endswith("finished  List of addresses into shop: 0 of 3 to do")


def test_who_follows_is_told_what_looks_like_another_and_how_it_ended(shop: Collection) -> None:
    job = plan(shop, addresses(2))
    image, other = make_image(shop), make_image(shop)
    NearDuplicate.objects.create(image=image, other=other, distance=3)
    first, second = job.lines.order_by("id")
    IntakeLine.objects.filter(pk=first.pk).update(verdict="stored", image=image)
    IntakeLine.objects.filter(pk=second.pk).update(verdict="failed", reason="It is broken.", ended_at=timezone.now())
    for options in ([], ["--follow"]):
        assert "1 looks like another: choose in the admin, " in run("intake_job", job.pk, *options)
    with pytest.raises(CommandError, match="Not all of it is in: 1 failed"):
        run("intake_job", job.pk, "--follow", "--strict")


def test_who_follows_a_job_that_is_deleted_is_told(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    job, look = plan(shop, addresses(1)), following.progress_of

    def look_once(job: IntakeJob) -> JobProgress:
        seen = look(job)
        IntakeJob.objects.all().delete()
        return seen

    monkeypatch.setattr(following, "progress_of", look_once)
    with pytest.raises(CommandError, match="was deleted while it was followed"):
        run("intake_job", job.pk, "--follow")


def test_a_job_is_looked_at_and_changed(shop: Collection) -> None:
    job = plan(shop, addresses(3))
    assert "List of addresses into shop, running: 3 waiting; 3 to do" in run("intake_job", job.pk)
    assert "paused" in run("intake_job", job.pk, "pause")
    assert "running" in run("intake_job", job.pk, "resume")
    assert "cancelled: 3 cancelled; 0 to do" in run("intake_job", job.pk, "cancel", "--follow")
    with pytest.raises(CommandError, match="Retry it"):
        run("intake_job", job.pk, "resume")
    assert "3 lines are tried again" in run("intake_job", job.pk, "retry")
    with pytest.raises(CommandError, match="Cancel it first"):
        run("intake_job", job.pk, "delete")
    jobs.cancel(job)
    assert "Deleted" in run("intake_job", job.pk, "delete")
    assert not IntakeJob.objects.exists()
    over = plan(shop, addresses(1))
    over.lines.update(verdict="duplicate")
    assert "shop, finished: 1 duplicate; 0 to do" in run("intake_job", over.pk)
    with pytest.raises(CommandError, match="There is no job"):
        run("intake_job", "00000000-0000-0000-0000-000000000000")
