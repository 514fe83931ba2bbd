"""Indexes of models that are gone: on this machine, in the storage that hosts hand them on by, and on servers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from catalog.doctor.findings import CannotLook, Check, Finding, Looking, Problem
from catalog.models import EmbeddingModel
from search.engines.depot import indexes_in
from search.engines.generations import DRAFT_PREFIX, FETCH_PREFIX, Generations
from search.engines.protocols import ServerEngine
from search.engines.registry import depot_of, index_for, index_pipelines

_INDEX = re.compile(r"(.+)[-_]([0-9a-f]{12})")  # search.engines.registry.index_for, as a server may spell it

OF_NOBODY = Problem(
    "index-of-nobody",
    "an index of an embedding model that is not in the database",
    "Run `manage.py doctor --fix`.",
    "removes it: an index is built from the database",
)


def _of_nobody(looking: Looking) -> Iterator[Finding]:
    """Indexes are listed before the rows are read: that of a model which was registered meanwhile is not seen yet."""
    unseen = []
    for place, look in PLACES.items():
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 - storages have errors of their own, and the other places matter too
            unseen.append(f"{place}: {error}")
    if unseen:
        raise CannotLook(" ".join(unseen))


def _on_this_machine() -> Iterator[Finding]:
    root = Path(settings.VISEARCH_INDEXES_DIR)
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:  # nothing was ever built
        return
    for name, *model in _lost(path.name for path in folders):
        yield OF_NOBODY.of(str(root / name), "no embedding model", partial(_remove_folder, root / name, *model))


def _in_the_storage() -> Iterator[Finding]:
    depot = depot_of("")
    for name, *model in _lost(indexes_in(depot.storage) if depot is not None else ()):
        subject = f"{name} in the storage of indexes"
        yield OF_NOBODY.of(subject, "no embedding model", partial(_withdraw, name, *model))


def _on_servers() -> Iterator[Finding]:
    """Of the pipelines that have theirs there. Another site's names may begin with the same prefix."""
    for pipeline in index_pipelines():
        with suppress(ImproperlyConfigured):  # search.E003 names it
            engine, spec = index_for(pipeline, "", 1)
            if isinstance(engine, ServerEngine):
                for _, of, fingerprint in _lost(engine.indexes(spec)):
                    if of == _spelled(pipeline):
                        subject = f"{pipeline}-{fingerprint} on the server of {engine.name}"
                        yield OF_NOBODY.of(subject, "no embedding model", partial(_remove, pipeline, fingerprint))


PLACES = {
    "indexes on this machine": _on_this_machine,
    "the storage of indexes": _in_the_storage,
    "servers of indexes": _on_servers,
}


def _lost(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Of what is called as indexes are, that of models which are gone: its name, pipeline and fingerprint."""
    for match in filter(None, map(_INDEX.fullmatch, names)):
        if _is_nobodys(match[1], match[2]):
            yield match[0], match[1], match[2]


def _is_nobodys(pipeline: str, fingerprint: str) -> bool:
    """``pipeline``: its name, or what a server makes of it."""
    rows = EmbeddingModel.objects.filter(fingerprint__startswith=fingerprint)
    return _spelled(pipeline) not in map(_spelled, rows.values_list("pipeline", flat=True))


def _spelled(pipeline: str) -> str:
    """See ServerEngine.indexes."""
    return re.sub(r"[^A-Za-z0-9]", "_", pipeline)


def _remove_folder(path: Path, pipeline: str, fingerprint: str) -> bool:
    """False while a draft in it is being written, by a builder that has not noticed yet that its model is gone."""
    if not _is_nobodys(pipeline, fingerprint):
        return True
    generations = Generations(path)
    drafts = {each for each in path.iterdir() if each.is_dir() and each.name.startswith((DRAFT_PREFIX, FETCH_PREFIX))}
    if drafts - set(generations.unneeded()):
        return False
    shutil.rmtree(path)
    return True


def _withdraw(name: str, pipeline: str, fingerprint: str) -> bool:
    depot = depot_of(name)
    if depot is not None and _is_nobodys(pipeline, fingerprint):
        depot.remove()
    return True


def _remove(pipeline: str, fingerprint: str) -> bool:
    if _is_nobodys(pipeline, fingerprint):
        engine, spec = index_for(pipeline, fingerprint, 1)
        engine.remove(spec)
    return True


CHECKS = (Check("indexes of models that are gone", (OF_NOBODY,), _of_nobody),)
