"""`make demo` with the real site: what the first start does, and what the second one does not do again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from catalog.samples.photographs import FOLDER
from tests.visearch_site.local.installation import PROJECT, Installation, eventually

pytestmark = [pytest.mark.models, pytest.mark.stack, pytest.mark.timeout(600)]  # hundreds of images are embedded

IMAGES = "SELECT count(*) FROM catalog_image i JOIN catalog_collection c ON c.id = i.collection_id WHERE c.name"
DIGITS = f"{IMAGES} = 'Digits'"
LOADED = f"{IMAGES} <> 'Digits'"


@pytest.fixture(scope="module")
def demo(reachable_folders: Callable[[], Path]) -> Iterator[Installation]:
    """Started once; all samples but the digits are loaded. Tests run in order, the last one starts it again."""
    made = Installation(reachable_folders() / "var")
    made.command = [sys.executable, "-m", "visearch_site.local", "demo"]
    made.start(PORT=str(made.port))
    for sample in ("leaders", "objects"):
        eventually(lambda sample=sample: f"Loaded the sample {sample}." in made.said(), seconds=200)
    yield made
    made.end()


def test_it_is_ready_and_its_documentation_answers(demo: Installation) -> None:
    for page in ("healthz", "readyz", "api/docs/", "api/schema/", "admin/login/"):
        assert requests.get(f"http://127.0.0.1:{demo.port}/{page}").status_code == 200


def test_the_account_it_shows_signs_in(demo: Installation) -> None:
    name, password = re.search(r"shown this once: (\S+) / (\S+)", demo.said()).groups()
    session = requests.Session()
    login = f"http://127.0.0.1:{demo.port}/admin/login/?next=/admin/"
    session.get(login)
    token = session.cookies["csrftoken"]
    answer = session.post(login, {"username": name, "password": password, "csrfmiddlewaretoken": token})
    assert answer.url.endswith("/admin/")


def test_everybody_finds_other_samples_of_the_same_person(demo: Installation) -> None:
    photo = FOLDER / "Barack Obama" / "portrait-2012.jpg"
    answer = requests.post(f"http://127.0.0.1:{demo.port}/api/v1/search/", files={"image": photo.read_bytes()})
    same, other = answer.json()["results"][:2]
    assert (same["distance"], other["distance"] > 0) == (0, True)
    assert [result["region"]["person"]["name"] for result in (same, other)] == ["Barack Obama"] * 2


def test_addresses_are_looked_at_by_a_process_of_their_own(demo: Installation, tmp_path: Path) -> None:
    addresses = tmp_path / "addresses.txt"
    addresses.write_text("http://169.254.169.254/latest/meta-data\n")
    command = [sys.executable, "manage.py", "import_urls", str(addresses), "--collection", "lists"]
    subprocess.run(command, cwd=PROJECT, env=demo.environment(), check=True, capture_output=True)
    eventually(lambda: demo.ask("SELECT code FROM catalog_intakeline WHERE url <> ''") == [("address-not-public",)])


def test_the_second_start_repeats_nothing_and_goes_on_with_what_was_not_finished(demo: Installation) -> None:
    eventually(lambda: demo.ask(DIGITS) > [(0,)])
    before = demo.ask(LOADED), demo.ask("SELECT count(*) FROM auth_user")
    assert demo.interrupt() == 0
    demo.start(PORT=str(demo.port))
    demo.process("celery -A visearch_site beat").kill()
    eventually(lambda: "beat runs again" in demo.said())
    for done_before in ("Staff account", "Collecting", "leaders", "objects"):
        assert done_before not in demo.said()
    assert (demo.ask(LOADED), demo.ask("SELECT count(*) FROM auth_user")) == before
    stored = demo.ask(DIGITS)
    eventually(lambda: demo.ask(DIGITS) > stored)
    assert demo.ask("SELECT count(*) FROM catalog_intakejob WHERE source = 'folder'") == [(3,)]
