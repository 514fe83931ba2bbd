"""What staff do on the way to what a test is about."""

from __future__ import annotations

import secrets

from playwright.sync_api import Locator, Page, expect

from tests.stack import Stack

READY_MS = 60_000  # until the worker has looked at a few images
AS_FILE = {"mimeType": "application/octet-stream"}


def new_collection(site: Stack, **facts: str) -> str:
    """The address of its own page; both pipelines run on it."""
    facts = {"name": f"made {secrets.token_hex(3)}", **facts}
    make = f"import catalog.models as m; m.Collection.objects.create(pipelines=['face', 'image'], **{facts!r})"
    site.manage("shell", "-c", make)
    return f"/admin/catalog/collection/{id_of(site, 'collection', 'name', facts['name'])}/change/"


def key_of(address: str) -> str:
    """The id of what has its own page at this address."""
    return address.split("/")[-3]


def id_of(site: Stack, table: str, column: str, value: str) -> str:
    [(key,)] = site.sql(f"SELECT id FROM catalog_{table} WHERE {column} = %s ORDER BY id DESC LIMIT 1", value)
    return str(key)


def upload(page: Page, collection: str, files: list[tuple[str, bytes]]) -> None:
    """Choose files in the collection's drop zone and wait until every one has its verdict."""
    page.goto(collection)
    page.locator("#vs-files").set_input_files([{"name": name, "buffer": data, **AS_FILE} for name, data in files])
    expect(page.locator("[data-line][data-finished='1']")).to_have_count(len(files), timeout=READY_MS)


def line(page: Page, name: str) -> Locator:
    return page.locator("[data-line]").filter(has=page.locator("[data-name]", has_text=name))
