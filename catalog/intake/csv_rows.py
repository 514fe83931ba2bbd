"""One row of a CSV file: from cells to a planned line, or to all that is wrong with it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator

from catalog.fetching import FetchRefused
from catalog.intake.jobs import PlannedLine
from catalog.intake.paths import text_of_path
from catalog.intake.url_lists import address_of
from catalog.models import Collection, Image, IntakeLine

FACTS = ("label", "external_id", "title", "link", "source_url")
COLUMNS = ("collection", *FACTS, "tags", "person", "path", "url")
LONGEST_TAG = 100  # of taggit's Tag.name
_TAGS = re.compile(r"[,;|]")
_is_web_address = URLValidator(schemes=["http", "https"])


class BadRow(Exception):
    """``reasons``: all that is wrong with it."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Row:
    """``key``: what tells it from other rows of its collection: where its image is."""

    collection: Collection
    planned: PlannedLine
    key: str


class Reading:
    """How the rows of one file are read: by its columns, its collections, and where its files may lie."""

    def __init__(
        self,
        header: tuple[str, list[str]],
        collections: Mapping[str, Collection],
        default: Collection | None,
        folder: Path | None,
        root: Path | None,
    ) -> None:
        self.delimiter, self.columns = header
        self.default, self.folder = default, folder
        self._collections, self._root = collections, root

    def row(self, number: int, cells: Sequence[str]) -> Row:
        """Raises BadRow."""
        if len(cells) != len(self.columns):
            raise BadRow([f"It has {len(cells)} cells, the header has {len(self.columns)}."])
        reasons: list[str] = []
        texts = self._texts(cells)
        collection = _tried(self._collection_of, texts, reasons)
        where = _tried(self._where, texts, reasons)
        facts = _facts(texts, reasons)
        person = _checked(texts.get("person", ""), "person", _longest(IntakeLine, "person_name"), reasons)
        if reasons or collection is None or where is None:
            raise BadRow(reasons)
        planned = PlannedLine(texts.get("path") or texts["url"], number, facts=facts, person_name=person, **where)
        return Row(collection, planned, planned.url or planned.path)

    def _texts(self, cells: Sequence[str]) -> dict[str, str]:
        """By column; a line break within a cell is a space."""
        return {
            column: cell.strip() if column == "path" else " ".join(cell.split())
            for column, cell in zip(self.columns, cells, strict=True)
        }

    def _collection_of(self, texts: Mapping[str, str]) -> Collection:
        name = texts.get("collection", "")
        collection = self._collections.get(name) if name else self.default
        if collection is not None:
            return collection
        raise ValueError(f"There is no collection {name!r} that you may change." if name else "It names no collection.")

    def _where(self, texts: Mapping[str, str]) -> dict[str, str]:
        path, url = texts.get("path", ""), texts.get("url", "")
        if bool(path) == bool(url):
            raise ValueError(f"It has {'both a path and a url' if path else 'neither a path nor a url'}: write one.")
        return {"path": self._path(path)} if path else {"url": _url(url)}

    def _path(self, said: str) -> str:
        if self.folder is None:
            raise ValueError("A path can only be used by `manage.py import_csv`. Write a url here.")
        path = (self.folder / said).resolve()
        if not any(place and path.is_relative_to(place) for place in (self.folder, self._root)):
            raise ValueError(
                f"{said} lies outside the folder of the CSV file. Move it there, or name a folder by --root."
            )
        if not path.is_file():
            raise ValueError(f"There is no file {said}. Paths begin at the folder of the CSV file.")
        return text_of_path(path)


def _url(said: str) -> str:
    try:
        return address_of(said)
    except FetchRefused as refusal:
        raise ValueError(f"url: {refusal}") from refusal


def _tried(read: Callable[[Mapping[str, str]], Any], texts: Mapping[str, str], reasons: list[str]) -> Any:
    """What it reads, or None and why not among ``reasons``."""
    try:
        return read(texts)
    except (ValueError, OSError) as error:
        reasons.append(str(error))
        return None


def _facts(texts: Mapping[str, str], reasons: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in FACTS:
        text = _checked(texts.get(name, ""), name, _longest(Image, name), reasons)
        if text and name in ("link", "source_url"):
            _check_link(text, name, reasons)
        facts[name] = text
    facts["tags"] = _tags(texts.get("tags", ""), reasons)
    return {name: value for name, value in facts.items() if value}


def _tags(text: str, reasons: list[str]) -> list[str]:
    """Separated by commas, semicolons or bars."""
    tags = dict.fromkeys(tag.strip() for tag in _TAGS.split(text))
    return [_checked(tag, "tags", LONGEST_TAG, reasons) for tag in tags if tag]


def _checked(text: str, column: str, longest: int, reasons: list[str]) -> str:
    """The same text; what is wrong with it is added to ``reasons``."""
    if len(text) > longest:
        reasons.append(f"{column} has {len(text)} characters, {longest} are the most.")
    if not text.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        reasons.append(f"{column} has a control character in it.")
    return text


def _check_link(text: str, column: str, reasons: list[str]) -> None:
    try:
        _is_web_address(text)
    except ValidationError:
        reasons.append(f"{column} is no address: {text[:80]}. Write it whole, as https://example.org/shoes/4711.")


def _longest(model: type[Image | IntakeLine], column: str) -> int:
    return int(getattr(model._meta.get_field(column), "max_length", 0))
