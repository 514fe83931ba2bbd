"""CSV files: everything wrong is named by its line before anything is stored; what is right comes in, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from catalog.curation.errors import NAME_TAKEN
from catalog.intake import csv_files, files
from catalog.intake.csv_files import CsvPlan
from catalog.intake.errors import ListRefused
from catalog.models import Collection, IntakeJob, IntakeLine, Person
from tests.cast import Cast, make_face, make_image
from tests.drawn import image_file

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "list"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg"):
        (folder / name).write_bytes(image_file())
    (tmp_path / "outside.jpg").write_bytes(image_file())
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    return folder


def read(content: str | bytes, folder: Path | None = None, **options: Any) -> CsvPlan:
    return csv_files.read(content, name="list.csv", collections=Collection.objects.all(), folder=folder, **options)


def problems(content: str | bytes, folder: Path | None = None, **options: Any) -> list[tuple[int, str]]:
    with pytest.raises(ListRefused) as refused:
        read(content, folder, **options)
    assert not IntakeJob.objects.exists()
    return [(problem.number, problem.reason) for problem in refused.value.problems]


# --- What is right ----------------------------------------------------------------------------------------------------


def test_every_column_comes_in(shop: Collection, folder: Path) -> None:
    header = "title,label,external_id,tags,link,source_url,person,path,url,collection"
    rows = [
        'Red shoe,4711,ext-1,"red; leather,new",https://shop.test/4711,https://a.test/x,Ada,deep/b.jpg,,shop',
        '"A ""quoted"" one,',
        'on two lines",,,,,,,,http://b.test/c.jpg,shop',
    ]
    [job] = csv_files.start(read("\n".join([header, *rows]), folder))
    first, second = job.lines.order_by("number")
    assert (job.source, job.name, job.collection) == ("csv", "list.csv", shop)
    assert (first.number, first.source, first.path) == (2, "deep/b.jpg", str(folder / "deep/b.jpg"))
    assert first.facts == {
        "label": "4711",
        "external_id": "ext-1",
        "title": "Red shoe",
        "link": "https://shop.test/4711",
        "source_url": "https://a.test/x",
        "tags": ["red", "leather", "new"],
    }
    assert first.person_name == "Ada"
    assert (second.number, second.url) == (3, "http://b.test/c.jpg")
    assert second.facts == {"title": 'A "quoted" one, on two lines'}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_file_may_look_like(shop: Collection, delimiter: str, mark: bytes, end: str) -> None:
    rows = [["URL", " Title ", "collection"], ["http://a.test/1", "Schön", "shop"], ["", "", ""], []]
    text = end.join(delimiter.join(row) for row in rows)
    [job] = csv_files.start(read(mark + text.encode()))
    [line] = job.lines.all()
    assert (line.number, line.url, line.facts) == (2, "http://a.test/1", {"title": "Schön"})


def test_a_job_for_each_collection(shop: Collection) -> None:
    other = Collection.objects.create(name="other")
    plan = read("url,collection\nhttp://a.test/1,shop\nhttp://a.test/2,other\nhttp://a.test/3,\n", default=other)
    assert plan.counts == {shop: 1, other: 2}
    assert {(job.collection, job.lines.count()) for job in csv_files.start(plan)} == {(shop, 1), (other, 2)}


def test_what_stands_there_twice_comes_in_once(shop: Collection, folder: Path) -> None:
    plan = read("collection,path\nshop,a.jpg\nshop,./deep/../a.jpg\nshop,deep/b.jpg\n", folder)
    assert [str(problem) for problem in plan.repeated] == ["line 3: ./deep/../a.jpg stands in line 2 already."]
    [job] = csv_files.start(plan)
    assert list(job.lines.order_by("number").values_list("number", flat=True)) == [2, 4]


def test_the_same_file_goes_on_and_fetches_nothing_twice(shop: Collection) -> None:
    text = "url,collection\nhttp://a.test/1,shop\nhttp://a.test/2,shop\n"
    [first] = csv_files.start(read(text))
    assert csv_files.start(read(text)) == [first]
    assert IntakeLine.objects.count() == 2
    first.lines.filter(url="http://a.test/1").update(verdict="stored", image=make_image(shop))
    first.lines.filter(url="http://a.test/2").update(verdict="failed", reason="It was slow.")
    [second] = csv_files.start(read(text))
    assert second != first
    assert list(second.lines.order_by("number").values_list("verdict", flat=True)) == ["duplicate", "waiting"]


def test_given_again_before_its_end_the_same_file_tries_again_what_failed(shop: Collection, folder: Path) -> None:
    text = "path,url\na.jpg,\n,http://a.test/2\n,http://a.test/3\n"
    [job] = csv_files.start(read(text, folder, default=shop))
    job.lines.filter(number=2).update(verdict="refused", code="not-an-image", reason="It is no image.")
    job.lines.filter(number=3).update(verdict="failed", code="timed-out", reason="It was slow.")
    [again] = csv_files.start(read(text, folder, default=shop))
    assert (again, again.tried_again) == (job, 2)
    assert set(job.lines.values_list("verdict", flat=True)) == {"waiting"}


def test_rows_of_many_collections_are_told_apart_by_where_they_stand(shop: Collection) -> None:
    """Between cells of several lines, and letters of several bytes."""
    names = ["shop", *(f"schön {number}" for number in range(5))]
    Collection.objects.bulk_create(Collection(name=name) for name in names[1:])
    rows = [f'{names[n % 6]},"title ""ü""\r\n{n}",http://a.test/{n}' for n in range(30)]
    jobs = csv_files.start(read("collection,title,url\r\n" + "\n".join(rows) + "\n\n"))
    planned = {
        (line.job.collection.name, line.number, line.facts["title"], line.url)
        for line in IntakeLine.objects.select_related("job__collection")
    }
    assert len(jobs) == 6
    assert planned == {(names[n % 6], 2 + 2 * n, f'title "ü" {n}', f"http://a.test/{n}") for n in range(30)}


def test_a_request_that_is_sent_again_after_it_broke_off_begins_nothing_anew(shop: Collection) -> None:
    other, job_id = Collection.objects.create(name="other"), uuid7()
    for text in (
        "url,collection\nhttp://a.test/1,shop\n",
        "url,collection\nhttp://a.test/2,shop\nhttp://a.test/3,other",
    ):
        first = csv_files.start(read(text), job_id=job_id)
        IntakeLine.objects.update(verdict="failed", reason="It was slow.")
        assert csv_files.start(read(text), job_id=job_id) == first
        job_id = uuid7()
    assert IntakeJob.objects.filter(collection=other).count() == 1
    assert IntakeJob.objects.count() == 3


@pytest.mark.usefixtures("media")
def test_what_a_list_says_of_an_image_that_is_here_is_not_taken_over_and_that_is_said(
    shop: Collection, folder: Path
) -> None:
    header = "collection,path,label,title,tags,person"
    first = 'shop,a.jpg,4711,,"red;leather",Ada'
    other = 'shop,deep/b.jpg,4712,A shoe,"red;new",Eve'  # the same file
    same = "shop,deep/b.jpg,4711,,red,Ada"
    for rows in ((first, other), (same,)):
        [job] = csv_files.start(read("\n".join([header, *rows]), folder))
        files.work(job, lambda line: None, lambda why: None)
    stored, duplicate, nothing_new = IntakeLine.objects.order_by("id")
    assert (stored.verdict, duplicate.verdict, nothing_new.verdict) == ("stored", "duplicate", "duplicate")
    assert "not taken over from the list: label, title, tags, person." in duplicate.reason
    assert nothing_new.reason == "This collection already has the very same file."


def test_of_an_address_that_brought_an_image_it_is_said_too(
    shop: Collection, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    def start(label: str) -> IntakeJob:
        rows = [f'http://a.test/{number},shop,{label},"red,new",Ada' for number in range(50)]
        return csv_files.start(read("\n".join(["url,collection,label,tags,person", *rows])))[0]

    for line in start("4711").lines.all():
        line.verdict, line.image = "stored", make_image(shop, label="4711")
        line.image.tags.add("red", "new")
        line.save()
    with django_assert_max_num_queries(30):
        second = start("4712")
    assert {line.verdict for line in second.lines.all()} == {"duplicate"}
    assert all("not taken over from the list: label. Change" in line.reason for line in second.lines.all())
    assert not any("list" in line.reason for line in start("4711").lines.all())


def test_the_operator_may_name_anybody(cast: Cast) -> None:
    make_face(make_image(cast.foreign), Person.objects.create(name="Eve"))
    [job] = csv_files.start(read("url,collection,person\nhttp://a.test/1,private,Eve\n"))
    assert job.lines.get().person_name == "Eve"


# --- What is wrong ----------------------------------------------------------------------------------------------------


def test_columns_that_are_unknown_missing_or_doubled() -> None:
    [(number, unknown), (_, doubled), (_, where), (_, which)] = problems("colour,label,,label\nred,1,,2\n")
    assert number == 1
    assert "Unknown columns: colour, (no name)." in unknown
    assert "label" in doubled
    assert "path" in where and "url" in where
    assert "collection" in which


def test_every_bad_row_is_named_with_all_that_is_wrong(shop: Collection, folder: Path) -> None:
    rows = [
        "collection,path,url,link,label,title,tags,source_url",
        "shop,a.jpg,,,,,,",
        "nowhere,a.jpg,,,,,,",
        ",a.jpg,,,,,,",
        "shop,a.jpg,http://a.test/1,,,,,",
        "shop,,,,,,,",
        f"shop,a.jpg,,shop.test/4711,{'l' * 201},{'t' * 301},{'g' * 101},javascript:alert(1)",
        "shop,,http://127.1/,,,,,",
        "shop,a.jpg",
        "shop,missing.jpg,,,,,,",
    ]
    said = problems("\n".join(rows), folder)
    assert [number for number, _ in said] == [3, 4, 5, 6, 7, 7, 7, 7, 7, 8, 9, 10]
    for (_, reason), words in zip(
        said,
        [
            "no collection 'nowhere'",
            "names no collection",
            "both a path and a url",
            "neither a path nor a url",
            *("label has 201", "title has 301", "link is no address", "tags has 101", "source_url is no address"),
            "read differently",
            "2 cells, the header has 8",
            "no file missing.jpg",
        ],
        strict=True,
    ):
        assert any(words in each for number, each in said), (words, reason)


def test_an_image_may_only_lie_where_the_list_does(shop: Collection, folder: Path, tmp_path: Path) -> None:
    outside = ["../outside.jpg", "link.jpg", str(tmp_path / "outside.jpg"), "/etc/passwd", "deep/../../outside.jpg"]
    text = "\n".join(["collection,path", *(f"shop,{path}" for path in outside)])
    said = problems(text, folder)
    assert [number for number, reason in said if "outside the folder" in reason] == [2, 3, 4, 5, 6]
    plan = read("\n".join(["collection,path", *(f"shop,{path}" for path in outside[:3])]), folder, root=tmp_path)
    assert plan.counts == {shop: 1}  # all three are the same file
    [(_, on_the_web)] = problems("collection,path\nshop,a.jpg\n")
    assert "import_csv" in on_the_web


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 1, "no column path"),
        (b"url,collection\n", 0, "no row"),
        (b"url,collection\nhttp://a.test/\x00,shop", 0, "NUL"),
        ("url,collection\nhttp://a.test/1,shop".encode("utf-16"), 0, "UTF-16"),
        (b"url,title,collection\nhttp://a.test/1,caf\xe9,shop", 0, "Line 2 is not in UTF-8"),
        (b'url,title,collection\nhttp://a.test/1,x,shop\nhttp://a.test/2,"never closed,shop\n', 3, "quote"),
        (b'url,title,collection\nhttp://a.test/1,"a"b,shop\n', 2, "quote"),
    ],
    ids=["empty", "header", "nul", "utf-16", "latin", "open quote", "stray quote"],
)
def test_what_is_no_csv(shop: Collection, content: bytes, line: int, says: str) -> None:
    said = problems(content)
    assert said[0][0] == line
    assert says in "; ".join(reason for _, reason in said)


def test_lines_keep_their_numbers_after_breaks_within_cells(shop: Collection) -> None:
    text = 'url,title,collection\nhttp://a.test/1,"one\ntwo\r\nthree",shop\nhttp://a.test/2,x,nowhere\n'
    assert [number for number, _ in problems(text)] == [5]


def test_of_very_many_bad_rows_some_are_named_and_all_counted(shop: Collection) -> None:
    with pytest.raises(ListRefused) as refused:
        read("url,collection\n" + "http://a.test/1,nowhere\n" * 300)
    assert (len(refused.value.problems), refused.value.count) == (100, 300)


def test_collections_that_may_not_be_changed_are_as_if_they_were_not_there(shop: Collection) -> None:
    with pytest.raises(ListRefused, match="no collection 'shop'"):
        csv_files.read(
            "url,collection\nhttp://a.test/1,shop\n", name="a", collections=Collection.objects.exclude(pk=shop.pk)
        )


def test_a_name_that_somebody_has_where_the_user_may_not_look_is_refused_by_its_line(
    cast: Cast, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    eve, ada = Person.objects.create(name="Eve"), Person.objects.create(name="Ada")
    Person.objects.create(name="Evelyn", merged_into=eve)
    make_face(make_image(cast.foreign), eve)
    make_face(make_image(cast.private), ada)
    people = ["Ada", "Eve", "Grace", "  Evelyn ", "Eve", *(f"Guest {number}" for number in range(500))]
    rows = [f"http://a.test/{number},private,{person}" for number, person in enumerate(people)]
    text = "\n".join(["url,collection,person", *rows])
    with django_assert_max_num_queries(8):
        said = problems(text, user=cast.editor)
    assert said == [(number, f"person: {NAME_TAKEN}") for number in (3, 5, 6)]
    assert read(text, user=cast.superuser).counts == {cast.private: len(people)}


def test_problems_are_told_in_the_order_of_their_lines(cast: Cast) -> None:
    make_face(make_image(cast.foreign), Person.objects.create(name="Eve"))
    text = "url,collection,person\nhttp://a.test/1,private,Eve\nhttp://a.test/2,nowhere,\n"
    assert [number for number, _ in problems(text, user=cast.editor)] == [2, 3]
