"""Lists of addresses: what is wrong is named before anything is stored, and a second run fetches only what is new."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from uuid_utils.compat import uuid7

from catalog.intake import jobs, url_lists
from catalog.intake.errors import ListRefused
from catalog.intake.here import BROUGHT
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.overview import progress_of
from tests.cast import make_image
from tests.catalog.intake.planned import plan

pytestmark = pytest.mark.django_db
NEVER = ["ftp://a.test/2.jpg", "http://0x7f.1/", "http://me:secret@a.test/"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encode", [str, lambda text: text.encode(), lambda text: b"\xef\xbb\xbf" + text.encode()])
def test_what_a_list_may_look_like(end: str, encode: Callable[[str], bytes | str]) -> None:
    text = end.join(["# photos", "", "  http://a.test/ä.jpg\t", "https://B.test:443", "http://a.test/%C3%A4.jpg#top"])
    found = url_lists.read(encode(text))
    assert [(each.number, each.said, each.url) for each in found.addresses] == [
        (3, "http://a.test/ä.jpg", "http://a.test/%C3%A4.jpg"),
        (4, "https://B.test:443", "https://b.test/"),
    ]
    assert [str(each) for each in found.repeated] == [
        "line 5: http://a.test/%C3%A4.jpg#top stands in line 3 already.",
    ]


def test_every_bad_line_is_named() -> None:
    lines = [
        "http://a.test/1.jpg",
        "ftp://a.test/2.jpg",
        "",
        "no address",
        "http://0x7f.1/",
        "http://me:secret@a.test/",
        "http://a b.test/",
    ]
    with pytest.raises(ListRefused) as refused:
        url_lists.read("\n".join(lines))
    assert [problem.number for problem in refused.value.problems] == [4, 7]
    assert "It has a space" in str(refused.value)


def test_an_address_that_is_never_fetched_is_a_line_that_says_why(shop: Collection) -> None:
    job = begin(shop, "http://a.test/1.jpg", *NEVER)
    assert [(line.verdict, line.code, line.number) for line in job.lines.all()] == [
        ("waiting", "", 1),
        ("refused", "scheme-not-allowed", 2),
        ("refused", "ip-ambiguous", 3),
        ("refused", "userinfo-in-address", 4),
    ]
    assert [line.source for line in job.lines.exclude(code="")] == NEVER
    assert jobs.retry_failed(job) == 0
    assert progress_of(job).finished == 3


def test_a_list_without_any_address_that_can_be_fetched_is_no_job() -> None:
    with pytest.raises(ListRefused) as refused:
        url_lists.read(NEVER)
    assert [problem.number for problem in refused.value.problems] == [1, 2, 3]


def test_of_very_many_bad_lines_some_are_named_and_all_counted() -> None:
    with pytest.raises(ListRefused) as refused:
        url_lists.read("no address\n" * 250)
    assert (len(refused.value.problems), refused.value.count) == (100, 250)
    assert str(refused.value).endswith("and 150 more")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no address"),
        ("\n# nothing\n", "no address"),
        ("http://a.test/ä".encode("utf-16"), "UTF-16"),
        (b"http://a.test/a\nhttp://a.test/\xe4\n", "Line 2 is not in UTF-8"),
        (b"http://a.test/\x00", "NUL"),
        ("http://a.test/" + "ä" * 400, "use a shorter one"),
    ],
)
def test_what_is_no_list(content: bytes | str, says: str) -> None:
    with pytest.raises(ListRefused, match=says):
        url_lists.read(content)


def test_a_list_has_at_most_so_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_lists, "MOST_LINES", 3)
    text = "\n".join(["#"] * 10 + [f"http://a.test/{number}" for number in range(3)])
    assert len(url_lists.read(text).addresses) == 3
    with pytest.raises(ListRefused, match="more than 3 addresses"):
        url_lists.read(text + "\nhttp://a.test/4")


# --- Begun ------------------------------------------------------------------------------------------------------------


def begin(shop: Collection, *urls: str) -> IntakeJob:
    return url_lists.start(shop, url_lists.read("\n".join(urls)), name="list.txt")


def test_the_same_addresses_go_on_in_the_same_job(shop: Collection) -> None:
    first = begin(shop, "http://a.test/1", "http://a.test/2")
    assert begin(shop, "http://a.test/2", "", "http://A.test/1") == first
    assert begin(shop, "http://a.test/1") != first
    assert first.name == "list.txt"


def test_a_second_run_fetches_only_what_is_not_here(shop: Collection) -> None:
    urls = [f"http://a.test/{number}" for number in range(6)]
    earlier = plan(shop, urls[:5])
    ready, failed, gone = make_image(shop), make_image(shop, status="failed", reason="It is broken."), make_image(shop)
    for url, verdict, image in zip(
        urls, ["stored", "failed", "stored", "refused", "failed"], [ready, failed, gone, None, None], strict=False
    ):
        earlier.lines.filter(url=url).update(verdict=verdict, image=image, reason="It is so." if image is None else "x")
    gone.delete()
    elsewhere = plan(Collection.objects.create(name="another"), urls)
    elsewhere.lines.filter(url=urls[5]).update(verdict="stored", image=make_image(elsewhere.collection))

    job = begin(shop, *urls)
    lines = {line.url: line for line in job.lines.all()}
    assert {url: line.verdict for url, line in lines.items()} == {
        urls[0]: "duplicate",
        urls[1]: "duplicate",
        **dict.fromkeys(urls[2:], "waiting"),
    }
    assert (lines[urls[0]].image, lines[urls[0]].reason) == (ready, BROUGHT)
    failed.refresh_from_db()
    assert failed.status == "queued"
    assert Image.objects.filter(status="queued").count() == 1


def test_given_again_an_unfinished_list_tries_again_what_failed(shop: Collection) -> None:
    urls = [f"http://a.test/{number}" for number in range(5)]
    job = begin(shop, *urls)
    broken = make_image(shop, status="failed", reason="It is broken.")
    ends = [
        ("failed", "timed-out"),
        ("refused", "not-found"),
        ("refused", "not-an-image"),
        ("failed", "processing-failed"),
    ]
    for url, (verdict, code) in zip(urls, ends, strict=False):
        job.lines.filter(url=url).update(verdict=verdict, code=code, reason="It is so.", attempts=3)
    job.lines.filter(url=urls[3]).update(image=broken)
    jobs.pause(job)
    assert begin(shop, *urls).tried_again == 0
    assert job.lines.filter(verdict="waiting").count() == 1
    jobs.resume(job)
    again = begin(shop, *urls)
    assert (again, again.tried_again) == (job, 3)
    lines = {line.url: (line.verdict, line.attempts) for line in job.lines.all()}
    assert lines == {
        **dict.fromkeys((*urls[:2], urls[4]), ("waiting", 0)),
        urls[2]: ("refused", 3),
        urls[3]: ("stored", 3),
    }
    broken.refresh_from_db()
    assert broken.status == "queued"
    assert begin(shop, *urls).tried_again == 0


def test_a_form_that_is_sent_twice_tries_nothing_again(shop: Collection) -> None:
    job_id, said = uuid7(), url_lists.read("http://a.test/1\nhttp://a.test/2")
    first = url_lists.start(shop, said, job_id=job_id)
    first.lines.filter(url="http://a.test/1").update(verdict="failed", reason="It was slow.")
    assert url_lists.start(shop, said, job_id=job_id).tried_again == 0
    assert first.lines.filter(verdict="failed").count() == 1


def test_nothing_is_made_of_a_rule_that_is_none(shop: Collection) -> None:
    with pytest.raises(jobs.JobError):
        url_lists.start(shop, url_lists.read("http://a.test/1"), normalise="small")
    assert not IntakeLine.objects.exists()
