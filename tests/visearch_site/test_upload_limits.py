"""Uploads stay in memory, and 300 MB of them cost neither memory nor the answer."""

from __future__ import annotations

import http.client
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile
from django.test import Client, RequestFactory

from catalog.api.bodies import UPLOAD_REFUSED
from tests.cast import assert_problem
from tests.stack import Stack
from tests.visearch_site.web import web_server
from visearch_site.upload_handlers import FORM_ROOM

MEGABYTE = 1024 * 1024
LIMIT = 50 * MEGABYTE
HEAD = (
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="large.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n"
)
TAIL = b"\r\n--edge--\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Stack]:
    with web_server(tmp_path_factory.mktemp("web"), VISEARCH_THROTTLE_SEARCH="1000/min") as running:
        yield running


def send(server: Stack, megabytes: int) -> tuple[int, dict[str, Any], int]:
    """POST a file of so many megabytes to the search; status, body of the answer, bytes sent."""
    size = len(HEAD) + megabytes * MEGABYTE + len(TAIL)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/api/v1/search/")
    connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(HEAD)
    for _ in range(megabytes):
        connection.send(bytes(MEGABYTE))
    connection.send(TAIL)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.read())
    connection.close()
    return answer.status, body, size


def worker_of(server: Stack) -> psutil.Process:
    (worker,) = psutil.Process(server.processes["web"].pid).children()
    return worker


def peak_memory(server: Stack) -> int:
    """The most bytes that the worker of the server ever held."""
    status = Path(f"/proc/{worker_of(server).pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_300_megabytes_are_refused_with_both_sizes_and_never_held(server: Stack) -> None:
    send(server, 60)  # whatever the first request loads
    before = peak_memory(server)
    status, body, size = send(server, 300)
    assert (status, body["code"], body["limit"], body["actual"]) == (413, "too-many-bytes", LIMIT, size)
    assert peak_memory(server) - before < 30 * MEGABYTE


def test_a_file_within_the_limit_is_read_without_touching_the_disk(server: Stack) -> None:
    before = worker_of(server).io_counters().write_bytes  # to a disk: the decoder gets it through memory
    status, body, _ = send(server, 49)
    assert (status, body["code"]) == (422, "truncated-image")  # so it was read whole
    assert worker_of(server).io_counters().write_bytes - before < MEGABYTE


def test_the_server_answers_the_next_request_as_ever(server: Stack) -> None:
    send(server, 60)
    assert server.answers("/healthz")


# --- The handler ------------------------------------------------------------------------------------------------------


def post(*sizes: int) -> Any:
    files = {f"file{number}": SimpleUploadedFile("a.jpg", b"x" * size) for number, size in enumerate(sizes)}
    return RequestFactory().post("/", {"field": "value", **files})


def test_files_come_through_whole_and_in_memory() -> None:
    request = post(3 * MEGABYTE, 5)
    large, small = request.FILES["file0"], request.FILES["file1"]
    assert isinstance(large, InMemoryUploadedFile)
    assert isinstance(large.file, io.BytesIO)
    assert (large.size, large.read()) == (3 * MEGABYTE, b"x" * 3 * MEGABYTE)
    assert small.read() == b"xxxxx"
    assert UPLOAD_REFUSED not in request.META


def test_all_files_of_a_request_share_one_limit(settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": MEGABYTE}
    assert len(post(MEGABYTE, FORM_ROOM // 2).FILES) == 2
    request = post(MEGABYTE, MEGABYTE)
    assert len(request.FILES) == 0
    refusal = request.META[UPLOAD_REFUSED]
    assert (refusal.code, refusal.limits["limit"]) == ("too-many-bytes", MEGABYTE)
    assert refusal.limits["actual"] > 2 * MEGABYTE


def test_fields_before_the_file_survive_so_that_forms_keep_their_csrf_token(settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 10}
    request = post(2 * FORM_ROOM)
    assert (request.POST.dict(), len(request.FILES)) == ({"field": "value"}, 0)


def test_a_length_that_is_not_so_does_not_open_the_door(settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 0}
    body = HEAD + bytes(2 * FORM_ROOM) + TAIL
    request = RequestFactory().post("/", body, content_type="multipart/form-data; boundary=edge", CONTENT_LENGTH=100)
    assert sum(len(file.read()) for _, files in request.FILES.lists() for file in files) < 100


@pytest.mark.django_db
def test_a_refused_upload_is_not_taken_for_a_missing_file(settings: Any) -> None:
    settings.VISEARCH_LIMITS = {**settings.VISEARCH_LIMITS, "bytes": 1000}
    file = SimpleUploadedFile("a.jpg", bytes(FORM_ROOM + 2000))
    body = assert_problem(Client().post("/api/v1/search/", {"image": file}), 413, "too-many-bytes")
    assert body["limit"] == 1000
    assert body["actual"] > FORM_ROOM + 2000
    assert os.linesep not in body["detail"]
