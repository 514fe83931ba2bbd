"""Every address of tests/hostile_addresses.py, put in: each ends with its reason, and nothing of a bad one is left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from catalog import storage
from catalog.models import Collection, Image
from tests.hostile_addresses import CASES, FETCHED, LARGEST, PHOTO
from tests.hostile_lines import problems_of, put_in
from tests.hostile_servers import World, hostile_world
from tests.library import files_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with hostile_world(tmp_path) as world:
        yield world


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is on its way."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def opened_in(folder: Path) -> list[str]:
    """Files of it that this process has open, also those without a name."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one of this look
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(folder))]


def test_each_ends_as_its_kind_does_and_only_the_good_ones_are_kept(
    shop: Collection, world: World, media: Path, temporary: Path
) -> None:
    found = put_in(shop, world, CASES)
    assert len(found) == len(CASES)
    assert {case.name: wrong for case, outcome in found.items() if (wrong := problems_of(case, outcome))} == {}
    assert world.secret.connections == 0

    assert sorted(path.read_bytes() for path in media.rglob("*") if path.is_file()) == sorted([PHOTO, LARGEST])
    assert len(files_in(media)) == Image.objects.count() == 2
    for case, outcome in found.items():
        assert (outcome.image is not None) == (case.verdict == FETCHED), case.name
        if outcome.image is not None:
            with storage.open_original(storage.original_key(outcome.image.pk, outcome.image.format)) as file:
                assert file.read() == case.body, case.name
    assert files_in(temporary) == opened_in(temporary) == []
