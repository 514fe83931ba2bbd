"""The law of imports, read from every file, and what a web or worker process may load.

visearch_site -> search -> catalog. Inside an app: doors -> stages -> foundations. The packages that compute know no
Django models, and one module of each reads settings.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog.models import Collection
from tests.drawn import image_file
from tests.library import put_image, run_python
from tests.library_fixtures import media
from tests.models_fixture import built_models
from tests.stack import ROOT

__all__ = ["built_models", "media"]

APPS = ("catalog", "search", "visearch_site")  # each may import itself and those before it
PURE = ("catalog.vision", "catalog.fetching", "search.engines")
FOUNDATIONS = {"models", "querysets", "exceptions", "vision", "fetching", "engines", "migrations"}
DOORS = {"admin", "api", "apps", "forms", "management", "tasks", "urls", "views"}
EXCEPTIONS = {("catalog.uploads", "catalog.tasks")}  # the nudge to the workers: uploads -> tasks -> lanes
HEAVY = (
    *("annoy", "cv2", "dlib", "faiss", "h5py", "keras", "matplotlib", "nmslib", "onnx", "onnxruntime"),
    *("pymilvus", "scipy", "tensorflow", "torch"),
)


@dataclass(frozen=True)
class Import:
    """``module`` imports ``name`` in ``line``; ``inside``: in a function."""

    module: str
    name: str
    line: str
    inside: bool

    def __str__(self) -> str:
        return f"{self.module}: {self.line.strip()}"


def modules() -> dict[str, Path]:
    found = {}
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str) -> Iterator[Import]:
    """What it imports when it runs: not what stands under ``if TYPE_CHECKING``."""
    source = MODULES[module].read_text()
    yield from _imports_in(ast.parse(source), module, source.splitlines(), inside=False)


def _imports_in(node: ast.AST, module: str, lines: list[str], inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        line = lines[child.lineno - 1] if isinstance(child, ast.stmt) else ""
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, line, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module} imports relatively: {line}"
            base = child.module or ""
            yield from (Import(module, _full_name(base, alias.name), line, inside) for alias in child.names)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports_in(child, module, lines, inside or is_function)


def _full_name(base: str, name: str) -> str:
    """``from catalog import storage`` imports a module, ``from catalog.models import Image`` something in one."""
    return f"{base}.{name}" if f"{base}.{name}" in MODULES else base


ALL = [each for module in MODULES for each in imports_of(module)]


def app_of(name: str) -> str:
    return name.partition(".")[0]


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def rank(module: str) -> int:
    """0: foundation, 1: stage, 2: door."""
    second = module.split(".")[1] if "." in module else "__init__"
    return 0 if second in FOUNDATIONS else 2 if second in DOORS else 1


def said(broken: list[Import]) -> str:
    return "\n".join(str(each) for each in broken)


def test_there_is_something_to_read() -> None:
    assert {"catalog.models", "catalog.vision.extract", "search.querying", "visearch_site.settings"} <= MODULES.keys()
    assert ("search.querying", "catalog.selectors") in {(each.module, each.name) for each in ALL}


def test_nobody_imports_an_app_above_its_own() -> None:
    broken = [
        each
        for each in ALL
        if app_of(each.name) in APPS and APPS.index(app_of(each.name)) > APPS.index(app_of(each.module))
    ]
    assert not broken, said(broken)


def test_tests_and_benchmarks_are_imported_by_nobody() -> None:
    broken = [each for each in ALL if app_of(each.name) in ("tests", "benchmarks")]
    assert not broken, said(broken)


@pytest.mark.parametrize("app", ["catalog", "search"])
def test_inside_an_app_doors_import_stages_and_stages_import_foundations(app: str) -> None:
    broken = [
        each
        for each in ALL
        if app_of(each.module) == app_of(each.name) == app
        and rank(each.module) < rank(each.name)
        and (each.module, each.name) not in EXCEPTIONS
    ]
    assert not broken, said(broken)


def test_doors_of_another_app_stay_closed() -> None:
    """Only the API of search may use that of the catalogue (its fields and errors), and the site may use all."""
    broken = [
        each
        for each in ALL
        if app_of(each.module) == "search"
        and app_of(each.name) == "catalog"
        and rank(each.name) == 2
        and not (is_in(each.module, "search.api") and is_in(each.name, "catalog.api"))
    ]
    assert not broken, said(broken)


@pytest.mark.parametrize("package", PURE)
def test_what_computes_knows_no_models_and_reads_settings_in_one_place(package: str) -> None:
    mine = [each for each in ALL if is_in(each.module, package)]
    ours = [each for each in mine if app_of(each.name) in APPS and not is_in(each.name, package)]
    assert not ours, said(ours)
    django = [each for each in mine if app_of(each.name) == "django" and each.module != f"{package}.registry"]
    assert not django, said(django)
    rows = [each for each in mine if is_in(each.name, "django.db") or is_in(each.name, "django.apps")]
    assert not rows, said(rows)


def test_an_import_inside_a_function_says_why() -> None:
    broken = [each for each in ALL if each.inside and "# noqa: " not in each.line]
    broken += [each for each in ALL if each.inside and "PLC0415 - " not in each.line and each not in broken]
    assert not broken, said(broken)


def test_no_two_modules_of_ours_import_each_other() -> None:
    """A circle, also one that an import inside a function hides."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for each in ALL:
        if each.name in MODULES and each.name != each.module and not is_in(each.module, each.name):
            graph[each.module].add(each.name)
    assert not list(_circles(graph))


def _circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """One line for each module that reaches itself."""
    for start, imported in graph.items():
        seen: set[str] = set()
        todo = list(imported)
        while todo:
            module = todo.pop()
            if module == start:
                yield f"{start} reaches itself"
                break
            if module not in seen:
                seen.add(module)
                todo += graph[module]


# --- What a process loads ---------------------------------------------------------------------------------------------

LOADED = """
import sys
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""
LEAN = """
import django
django.setup()
import visearch_site.urls, visearch_site.celery, catalog.tasks, search.tasks
from django.core import checks
checks.run_checks()
"""


def loaded_by(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("loaded:")[2].split())


def test_starting_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAN + LOADED], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    loaded = loaded_by(done)
    assert {"django", "celery", "PIL"} <= loaded
    assert not loaded & set(HEAVY)


@pytest.mark.models
@pytest.mark.django_db(transaction=True)
def test_a_worker_loads_no_training_library(media: Path, built_models: Path) -> None:
    from catalog.embedding_models import register_models

    register_models()
    collection = Collection.objects.create(name="shop", pipelines=["face", "image"])
    image = put_image(collection, image_file())
    program = "from catalog.processing import process_batch\nassert process_batch() == 1\n"
    loaded = loaded_by(run_python(program + LOADED, media, VISEARCH_MODELS=str(built_models)))
    image.refresh_from_db()
    assert image.status == "ready", image.reason
    assert {"onnxruntime", "cv2"} <= loaded
    assert not loaded & {"dlib", "keras", "onnx", "tensorflow", "torch"}
