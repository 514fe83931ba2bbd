"""What the variables behind `make up` mean, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.samples.sets import SETS
from visearch_site.local.errors import LocalError
from visearch_site.local.site import Site, django_site


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "PICTURES", "VISEARCH_WORKER_PROCESSES"):
        monkeypatch.delenv(name, raising=False)


def test_make_up_loads_nothing_and_make_demo_the_samples_once() -> None:
    assert django_site(samples=False).loads == []
    loads = django_site(samples=True).loads
    assert all(load.once for load in loads)
    assert [load.command[-2:] for load in loads] == [["load_samples", key] for key in SETS]


def test_a_folder_of_ones_own_does_not_wait_for_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURES", str(tmp_path))
    titles = [load.title for load in django_site(samples=True).loads]
    assert titles[-2:] == [f"the images of {tmp_path}", "the sample digits"]


def test_a_folder_of_ones_own_is_loaded_into_a_private_collection_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my holidays; rm -rf"
    folder.mkdir()
    monkeypatch.setenv("PICTURES", str(folder))
    [load] = django_site(samples=False).loads
    assert load.command[2:6] == ["import_folder", str(folder), "--collection", folder.name]
    assert "--public" not in load.command


def test_a_folder_that_does_not_exist_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURES", "/nowhere")
    with pytest.raises(LocalError, match="no folder /nowhere"):
        django_site(samples=False)


def test_the_root_of_the_disk_has_no_name_for_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTURES", "/")
    with pytest.raises(LocalError, match="PICTURES=/ has no name"):
        django_site(samples=False)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80 80"])
def test_a_port_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(LocalError, match=f"PORT='{port}' is not a number from 1 to 65535"):
        django_site(samples=False)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("images.example.org", "http://images.example.org:8000"),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(host: str, address: str) -> None:
    assert Site(host, 8000, [], [], []).address == address
