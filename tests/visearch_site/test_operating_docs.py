"""docs/operating.md names every setting and every command, and none that does not exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from visearch_site.local.site import django_site
from visearch_site.local.supervision import Program

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs" / "operating.md").read_text()
SETTINGS = PROJECT / "visearch_site" / "settings.py"
FOR_MAKE = {"PORT", "HOST", "PICTURES", "VISEARCH_WORKER_PROCESSES", "PYTHON"}
READERS = {"env", "required", "get", "_number"}


def names_read(file: Path) -> set[str]:
    """Environment variables that a file reads by env.str("NAME"), required("NAME"), environ.get("NAME") and so on."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call) and node.args]
    return {call.args[0].value for call in calls if _reads(call.func) and _is_name(call.args[0])}


def _reads(function: ast.expr) -> bool:
    words = set(re.findall(r"\w+", ast.unparse(function)))
    return bool(words & READERS)


def _is_name(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Constant) and bool(re.fullmatch(r"[A-Z][A-Z_]+", str(argument.value)))


def rows(heading: str) -> set[str]:
    """The first cells of the tables under a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))


def test_every_setting_is_documented_and_every_documented_one_is_read() -> None:
    read = names_read(SETTINGS)
    assert len(read) > 20
    assert rows("Settings") == read | FOR_MAKE


def test_what_the_launcher_reads_is_documented() -> None:
    files = (PROJECT / "visearch_site" / "local").glob("*.py")
    read = set().union(*(names_read(file) for file in files)) - {"PATH"}
    assert {"PORT", "HOST", "PICTURES", "VISEARCH_WORKER_PROCESSES"} <= read
    assert read <= rows("Settings")


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    files = [*PROJECT.glob("*/management/commands/*.py")]
    assert rows("Commands") == {file.stem for file in files if not file.stem.startswith("_")}


@pytest.mark.parametrize("program", django_site(samples=False).programs, ids=lambda program: program.name)
def test_the_command_of_a_process_is_the_documented_one(program: Program) -> None:
    documented = re.search(rf"^\| {program.name} \| `([^`]+)`", TEXT, flags=re.MULTILINE)
    assert set(documented[1].split()) <= set(program.command)


def test_every_system_check_is_documented_and_every_documented_one_exists() -> None:
    files = PROJECT.glob("*/checks.py")
    ids = {found for file in files for found in re.findall(r'id="(\w+\.[EW]\d+)"', file.read_text())}
    documented = TEXT.partition("\n## System checks\n")[2].partition("\n## ")[0]
    assert len(ids) > 3
    assert set(re.findall(r"^\| `(\w+\.[EW]\d+)` \|", documented, flags=re.MULTILINE)) == ids
