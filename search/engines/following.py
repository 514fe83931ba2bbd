"""Following what other hosts publish: look, fetch aside, verify, and only then let the local pointer move.

A search never waits for the network: ``nudge`` looks now and then in a thread of its own, and whatever fails there
(a storage that is away, a file that came damaged or cut short, a newer format) leaves what serves here serving.
Builders wait: ``catch_up``.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from search.engines.depot import fetch_checked
from search.engines.errors import IndexDamaged, IndexNotBuilt
from search.engines.generations import Draft, Generations
from search.engines.manifest import MANIFEST, check_agrees, read_manifest
from search.engines.names import Published, number_of
from search.engines.types import IndexSpec

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # between two looks of a process: a listing of a small folder, and one line
LOOK_AFTER_FAILURE_SECONDS = 60.0


class Follower:
    """Of one index in one process."""

    def __init__(self, spec: IndexSpec, engine: str) -> None:
        self._spec, self._engine = spec, engine
        self._generations = Generations(spec.root)
        self._thread: threading.Thread | None = None
        self._next_look = 0.0  # monotonic seconds
        self._starting, self._fetching = threading.Lock(), threading.Lock()
        self._damaged = ""

    def fetch_again(self, name: str) -> None:
        """This generation could not be opened here; nothing newer may come for a long time."""
        self._damaged = name

    def is_of(self, spec: IndexSpec, engine: str) -> bool:
        return (self._spec, self._engine) == (spec, engine)

    def nudge(self) -> None:
        """Look in the background, unless that is under way or was done lately."""
        if time.monotonic() < self._next_look or not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None or not self._thread.is_alive():
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._thread = threading.Thread(target=self.catch_up, name="index-fetch", daemon=True)
                self._thread.start()
        finally:
            self._starting.release()

    def catch_up(self) -> None:
        """Fetch what is newer. Logs what goes wrong and changes nothing then."""
        try:
            with self._fetching:
                self._catch_up()
        except Exception as error:  # noqa: BLE001 - storages have errors of their own, and what serves goes on
            self._next_look = time.monotonic() + LOOK_AFTER_FAILURE_SECONDS
            logger.warning("the newest generation of %s could not be fetched: %r", self._spec.root.name, error)

    def _catch_up(self) -> None:
        depot = self._spec.depot
        newest = depot.newest() if depot is not None else None
        if newest is None or not self._is_news(newest):
            return
        draft = self._generations.receive(newest.name)
        if draft is None:
            return  # another process of this host is at it
        try:
            self._fetch(newest, draft)
            if self._generations.adopt(draft, newest.manifest_sha256):
                self._damaged = ""
                logger.info("fetched generation %s of %s", newest.name, self._spec.root.name)
        finally:
            self._generations.drop(draft)

    def _is_news(self, newest: Published) -> bool:
        try:
            here = self._generations.published()
        except (IndexNotBuilt, IndexDamaged):
            return True
        if here == newest:
            return self._damaged == here.name
        return number_of(newest.name) >= number_of(here.name)

    def _fetch(self, newest: Published, draft: Draft) -> None:
        depot = self._spec.depot
        assert depot is not None
        depot.fetch(newest.name, MANIFEST, draft.folder)
        manifest = read_manifest(draft.folder, newest.manifest_sha256)
        check_agrees(manifest, self._spec, self._engine)
        fetch_checked(depot, newest.name, manifest.files, draft.folder)


_followers: dict[Path, Follower] = {}


def follow(spec: IndexSpec, engine: str) -> Follower | None:
    """From now on ``nudge`` looks for what other hosts publish of this index; None where there is no depot."""
    if spec.depot is None:
        _followers.pop(spec.root, None)
        return None
    follower = _followers.get(spec.root)
    if follower is None or not follower.is_of(spec, engine):
        follower = _followers[spec.root] = Follower(spec, engine)
    return follower


def nudge(root: Path) -> None:
    """Look in the background where somebody follows this index. Costs nothing else."""
    follower = _followers.get(root)
    if follower is not None:
        follower.nudge()
