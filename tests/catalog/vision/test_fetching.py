"""Published weights come whole, the right ones, or not at all; a broken connection costs only what did not come."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.vision import fetching
from catalog.vision.fetching import Fetched, Limits, NotFetched
from catalog.vision.published import PUBLISHED, Published
from catalog.vision.readers import vggface
from tests.file_server import Served, serving
from tests.keras_files import SMALL, random_file

CONTENT, OTHER = random_file(SMALL, seed=1), random_file(SMALL, seed=2)
HALF = len(CONTENT) // 2
QUICK = Limits(attempts=3, pause=0.0, silence=5.0)
ITEM = Published(
    "small", "small.h5", "https://nowhere.invalid/small.h5", "CC0", "", "tests.catalog.vision.test_fetching.check_small"
)


def check_small(data: bytes) -> None:
    """In place of the checks of whole networks, which need files of 60 MB."""
    vggface.read(SMALL, data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(CONTENT) as server:
        yield server


def fetch(server: Served, folder: Path, **options: Any) -> Fetched:
    return fetching.fetch(ITEM, folder, **{"url": server.url, "limits": QUICK, **options})


def refusal(server: Served, folder: Path, **options: Any) -> str:
    with pytest.raises(NotFetched) as caught:
        fetch(server, folder, **options)
    return str(caught.value)


def visible(folder: Path) -> list[str]:
    weights = folder / "weights"
    return sorted(path.name for path in weights.iterdir() if not path.name.startswith(".")) if weights.exists() else []


def leftovers(folder: Path) -> set[str]:
    """What is hidden there, but for the lock."""
    return {path.name for path in (folder / "weights").glob(".*")} - {".small.h5.lock"}


# --- A download -------------------------------------------------------------------------------------------------------


def test_a_first_fetch_brings_the_file_and_records_its_sha256(served: Served, tmp_path: Path) -> None:
    fetched = fetch(served, tmp_path)
    assert (fetched.first, fetched.downloaded) == (True, True)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT
    record = json.loads(ITEM.record_path(tmp_path).read_text())
    assert (record["sha256"], record["size"]) == (sha256(CONTENT), len(CONTENT))
    assert (record["origin"], record["licence"]) == (served.url, "CC0")
    assert visible(tmp_path) == ["small.h5", "small.json"]
    assert leftovers(tmp_path) == set()
    assert ITEM.source(tmp_path).read() == CONTENT


def test_progress_tells_how_much_of_how_much_is_here(served: Served, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    fetch(served, tmp_path, progress=lambda here, total: told.append((here, total)))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [here for here, _ in told] == sorted(here for here, _ in told)


def test_what_is_here_and_whole_is_not_downloaded_again(served: Served, tmp_path: Path) -> None:
    fetch(served, tmp_path)
    again = fetch(served, tmp_path)
    assert (again.first, again.downloaded, len(served.asked)) == (False, False, 1)
    assert fetch(served, tmp_path, again=True).downloaded
    assert len(served.asked) == 2


def test_what_was_damaged_here_is_downloaded_again(served: Served, tmp_path: Path) -> None:
    fetch(served, tmp_path)
    ITEM.path(tmp_path).write_bytes(CONTENT[:-1])
    assert fetch(served, tmp_path).downloaded
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


def test_two_at_once_download_once(served: Served, tmp_path: Path) -> None:
    found: list[Fetched] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(served, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.downloaded for each in found) == [False, False, True]
    assert len(served.asked) == 1


# --- A connection that breaks -----------------------------------------------------------------------------------------


def test_a_download_that_broke_off_goes_on_where_it_ended(served: Served, tmp_path: Path) -> None:
    served.breaks = [HALF, 1000]
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT
    assert served.asked_ranges == ["", f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


def test_a_later_command_goes_on_where_the_one_before_was_given_up(served: Served, tmp_path: Path) -> None:
    served.breaks = [HALF]
    said = refusal(served, tmp_path, limits=replace(QUICK, attempts=1))
    assert "broke off" in said and "goes on where it ended" in said
    assert visible(tmp_path) == []
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT
    assert served.asked_ranges == ["", f"bytes={HALF}-"]


def test_a_download_that_was_whole_when_its_process_died_is_not_repeated(served: Served, tmp_path: Path) -> None:
    served.breaks = [HALF]
    refusal(served, tmp_path, limits=replace(QUICK, attempts=1))
    (tmp_path / "weights" / ".small.h5.part").write_bytes(CONTENT)
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT
    assert served.asked_ranges == ["", f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("options", [{"ranges": False}, {"mark": ""}, {"mark": 'W/"weak"'}])
def test_a_server_that_cannot_give_a_part_is_asked_for_the_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    with serving(CONTENT, breaks=[HALF], **options) as server:
        fetch(server, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("obeys", [True, False])
def test_halves_of_two_files_are_never_put_together(served: Served, tmp_path: Path, obeys: bool) -> None:
    served.breaks, served.obeys_if_range = [HALF], obeys
    refusal(served, tmp_path, limits=replace(QUICK, attempts=1))
    served.content, served.mark = OTHER, '"second"'
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == OTHER


def test_a_part_from_another_address_is_not_gone_on_with(served: Served, tmp_path: Path) -> None:
    served.breaks = [HALF]
    refusal(served, tmp_path, limits=replace(QUICK, attempts=1))
    fetch(served, tmp_path, url=f"{served.url}?copy")
    assert served.asked_ranges == ["", ""]


def test_a_part_longer_than_the_file_is_thrown_away(served: Served, tmp_path: Path) -> None:
    served.breaks = [HALF]
    refusal(served, tmp_path, limits=replace(QUICK, attempts=1))
    (tmp_path / "weights" / ".small.h5.part").write_bytes(CONTENT + b"more")
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


def test_a_server_in_trouble_is_asked_again(served: Served, tmp_path: Path) -> None:
    served.statuses = [503, 429]
    fetch(served, tmp_path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    with serving(CONTENT, silent=True) as server:
        said = refusal(server, tmp_path, limits=replace(QUICK, silence=0.2))
    assert "timed out" in said


def test_a_file_without_a_length_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    with serving(CONTENT, length=False, breaks=[HALF]) as server:
        assert "truncated" in refusal(server, tmp_path)
    assert visible(tmp_path) == []


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_there(served: Served, tmp_path: Path, status: int) -> None:
    served.statuses = [status]
    said = refusal(served, tmp_path)
    assert f"answers {status}" in said
    assert "--from" in said and "--url" in said
    assert len(served.asked) == 1


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.h5"
        with pytest.raises(
            NotFetched, match=r"cannot be reached \(.*Connection refused\).* `manage.py models fetch small"
        ):
            fetching.fetch(ITEM, tmp_path, url=url, limits=QUICK)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/weights.h5", "weights.h5", "http://"])
def test_only_the_web_is_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotFetched, match=r"must begin with https:// or http://"):
        fetching.fetch(ITEM, tmp_path, url=url, limits=QUICK)


def test_the_published_address_must_be_https(served: Served, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match=r"must begin with https://\."):
        fetching.fetch(replace(ITEM, url=served.url), tmp_path, limits=QUICK)
    assert served.asked == []


def test_a_server_cannot_lead_elsewhere_than_to_the_web(served: Served, tmp_path: Path) -> None:
    served.moved_to = "file:///etc/hostname"
    assert "answers 302" in refusal(served, tmp_path)


class WithoutEncryption(urllib.request.HTTPSHandler):
    """Speaks plain http to an https:// address: there is no certificate for a server of a test."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(http.client.HTTPConnection, req)


def test_a_published_address_cannot_lead_out_of_https(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "HTTPSHandler", WithoutEncryption)
    published = replace(ITEM, url=served.url.replace("http://", "https://"))
    with serving(b"") as elsewhere:
        served.moved_to = elsewhere.url
        with pytest.raises(NotFetched, match=f"{elsewhere.url} is not fetched: .* must begin with https://"):
            fetching.fetch(published, tmp_path, limits=QUICK)
        assert elsewhere.asked == []
    served.moved_to = ""
    assert fetching.fetch(published, tmp_path, limits=QUICK).record.origin == published.url


def test_an_address_given_as_https_cannot_lead_out_of_it(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "HTTPSHandler", WithoutEncryption)
    with serving(CONTENT) as elsewhere:
        served.moved_to = elsewhere.url
        said = refusal(served, tmp_path, url=served.url.replace("http://", "https://"))
        assert f"{elsewhere.url} is not fetched" in said and "must begin with https://." in said
        assert elsewhere.asked == []


def test_a_file_that_moved_is_found(served: Served, tmp_path: Path) -> None:
    with serving(b"", moved_to=served.url) as old:
        assert fetch(old, tmp_path).record.origin == old.url
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False])
def test_a_file_larger_than_any_is_not_taken(tmp_path: Path, length: bool) -> None:
    with serving(CONTENT, length=length) as server:
        said = refusal(server, tmp_path, limits=replace(QUICK, size=1000))
    assert "more bytes than any file of small has" in said
    assert visible(tmp_path) == []
    assert leftovers(tmp_path) == set()


def test_a_download_that_takes_too_long_is_given_up(served: Served, tmp_path: Path) -> None:
    assert "took more than" in refusal(served, tmp_path, limits=replace(QUICK, duration=0.0))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"<html>Log in first</html>", "Not an HDF5 file"), (random_file({"dense_1": ((2, 2), (2,))}), "another network")],
)
def test_what_is_not_these_weights_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with serving(content) as server:
        assert says in refusal(server, tmp_path)
    assert visible(tmp_path) == []


def test_other_bytes_than_recorded_are_refused_and_the_old_file_stays(served: Served, tmp_path: Path) -> None:
    fetch(served, tmp_path)
    served.content = OTHER
    said = refusal(served, tmp_path, again=True)
    assert sha256(OTHER) in said and sha256(CONTENT) in said and "as at the first fetch" in said
    assert "What is here stays" in said and str(ITEM.record_path(tmp_path)) in said
    assert ITEM.path(tmp_path).read_bytes() == CONTENT
    assert ITEM.source(tmp_path).read() == CONTENT


def test_other_bytes_than_pinned_are_refused(served: Served, tmp_path: Path) -> None:
    said = refusal(served, tmp_path, sha256=sha256(OTHER))
    assert sha256(CONTENT) in said and sha256(OTHER) in said and "pinned" in said
    assert visible(tmp_path) == []
    assert fetch(served, tmp_path, sha256=sha256(CONTENT).upper()).first


def test_a_pin_that_contradicts_the_record_is_refused_before_anything_is_asked(served: Served, tmp_path: Path) -> None:
    fetch(served, tmp_path)
    said = refusal(served, tmp_path, sha256=sha256(OTHER))
    assert "pinned" in said and len(served.asked) == 1


@pytest.mark.parametrize("pin", ["12", "g" * 64, sha256(b"") + "0"])
def test_a_pin_that_is_no_sha256_is_refused(served: Served, tmp_path: Path, pin: str) -> None:
    assert "64 digits" in refusal(served, tmp_path, sha256=pin)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": "ab"}'])
def test_a_damaged_record_is_named_and_nothing_is_taken_instead(served: Served, tmp_path: Path, content: str) -> None:
    fetch(served, tmp_path)
    ITEM.record_path(tmp_path).write_text(content)
    assert f"{ITEM.record_path(tmp_path)} is damaged" in refusal(served, tmp_path)
    assert "run `manage.py models fetch small`" in (ITEM.source(tmp_path).absent() or "")


def test_a_folder_that_cannot_be_written_is_named(served: Served, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where the folder should be")
    assert f"{tmp_path / 'weights'} cannot be written" in refusal(served, tmp_path)


def test_a_full_disk_is_named(served: Served, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".small.h5.part").symlink_to("/dev/full")
    assert "cannot be written (No space left on device): make room" in refusal(served, tmp_path)


# --- A file at hand ---------------------------------------------------------------------------------------------------


def test_a_file_at_hand_is_taken_and_stays_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "at hand.h5"
    path.write_bytes(CONTENT)
    fetched = fetching.take(ITEM, tmp_path, path)
    assert fetched.first and fetched.record.sha256 == sha256(CONTENT)
    assert "at hand.h5" in fetched.record.origin
    assert ITEM.path(tmp_path).read_bytes() == path.read_bytes() == CONTENT


def test_a_file_at_hand_is_checked_like_a_download(tmp_path: Path) -> None:
    path = tmp_path / "at hand.h5"
    path.write_bytes(CONTENT[:-5])
    with pytest.raises(NotFetched, match="truncated"):
        fetching.take(ITEM, tmp_path, path)
    assert leftovers(tmp_path) == set()
    path.write_bytes(CONTENT)
    with pytest.raises(NotFetched, match="pinned"):
        fetching.take(ITEM, tmp_path, path, sha256=sha256(OTHER))
    fetching.take(ITEM, tmp_path, path)
    path.write_bytes(OTHER)
    with pytest.raises(NotFetched, match="as at the first fetch"):
        fetching.take(ITEM, tmp_path, path)
    assert ITEM.path(tmp_path).read_bytes() == CONTENT


def test_a_file_at_hand_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "at hand.h5"
    path.write_bytes(CONTENT)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".small.h5.taken").symlink_to("/dev/full")
    with pytest.raises(NotFetched, match="No space left on device"):
        fetching.take(ITEM, tmp_path, path)
    assert leftovers(tmp_path) == set()


def test_a_file_at_hand_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "none.h5", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(NotFetched, match=f"{path} cannot be read \\({says}"):
            fetching.take(ITEM, tmp_path, path)
    large = tmp_path / "large.h5"
    large.write_bytes(CONTENT)
    with pytest.raises(NotFetched, match="more than any file of small"):
        fetching.take(ITEM, tmp_path, large, limits=Limits(size=1000))


# --- What is published ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", PUBLISHED.values(), ids=str)
def test_what_is_published_names_its_address_and_its_rights(item: Published) -> None:
    assert item.url.startswith("https://") and item.url.endswith(item.file)
    assert "CC BY" in item.licence and "CC BY" in item.rights


def test_what_was_never_fetched_says_what_to_do(tmp_path: Path) -> None:
    source = PUBLISHED["vggface2-resnet50"].source(tmp_path / "nothing here")
    assert "run `manage.py models fetch vggface2-resnet50`" in (source.absent() or "")
    assert not (tmp_path / "nothing here").exists()
