"""The page in German: every text has one, and the compiled catalogue that is used is the one that can be read."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils.translation.template import templatize

from tests.stack import ROOT

FOLDER = ROOT / "locale" / "de" / "LC_MESSAGES"
TEMPLATES = [ROOT / "templates" / "base.html", *(ROOT / "templates").glob("search/*.html")]
TEMPLATES += [*(ROOT / "templates").glob("errors/*.html"), *(ROOT / "templates").glob("account/*.html")]
MODULES = [ROOT / "search" / f"{name}.py" for name in ("explaining", "forms", "marks", "shown", "views", "api/uploads")]
MODULES += [ROOT / "visearch_site" / "error_pages.py"]
CALLS = {"_", "gettext", "gettext_lazy"}
PLACE = re.compile(r"%\(\w+\)s")


def readable() -> dict[str, str]:
    """msgid to msgstr of the .po file."""
    entries = {}
    for block in (FOLDER / "django.po").read_text().split("\n\n"):
        parts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith(("msgid ", "msgstr ")):
                name, line = line.split(" ", 1)  # noqa: PLW2901 - the rest is read as the lines below are
            if line.startswith('"'):
                parts[name] = parts.get(name, "") + ast.literal_eval(line)
        if parts.get("msgid"):
            entries[parts["msgid"]] = parts["msgstr"]
    return entries


def texts_of(path: Path) -> Iterator[str]:
    """Every text that the file asks to be translated."""
    if path.suffix == ".html":
        for found in re.finditer(
            r"""\bgettext\(u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\)""", templatize(path.read_text())
        ):
            yield ast.literal_eval(found[1])
        for found in re.finditer(r"\b_\((\"[^\"]*\")\)", templatize(path.read_text())):
            yield ast.literal_eval(found[1])
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield ast.literal_eval(node.args[0])


@pytest.mark.parametrize("path", [*TEMPLATES, *MODULES], ids=lambda path: path.name)
def test_every_text_has_a_german_one(path: Path) -> None:
    missing = [text for text in texts_of(path) if not readable().get(text)]
    assert not missing


def test_texts_are_found_at_all() -> None:
    found = {text for path in [*TEMPLATES, *MODULES] for text in texts_of(path)}
    assert {"Choose a photo", "More like %(name)s", "likely the same person", "This image is damaged"} <= found


def test_what_is_used_is_what_can_be_read() -> None:
    with (FOLDER / "django.mo").open("rb") as file:
        used = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    used.pop("")
    assert used == readable()


def test_both_languages_fill_in_the_same() -> None:
    different = [text for text, german in readable().items() if set(PLACE.findall(text)) != set(PLACE.findall(german))]
    assert not different
