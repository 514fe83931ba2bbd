"""Following what other hosts publish: look, fetch aside, verify, and only then let the local pointer move.

A search never waits for the network: ``nudge`` looks now and then in a thread of its own, and whatever fails there
(a storage that is away, a file that came damaged or cut short, a newer format) leaves what serves here serving. What
came damaged is fetched again ever more rarely, and meanwhile the one published before it will do, where that is newer
than what is here. Builders wait: ``catch_up``.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from search.engines.depot import Depot, fetch_checked
from search.engines.errors import IndexDamaged, IndexNotBuilt
from search.engines.generations import Draft, Generations, Stamp
from search.engines.manifest import MANIFEST, check_agrees, read_manifest
from search.engines.names import Published, number_of
from search.engines.types import IndexSpec

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # between two looks of a process: a listing of a small folder, and one line
LOOK_AFTER_FAILURE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0  # of a generation that lies damaged in the storage: gigabytes, for each process


@dataclass(frozen=True, slots=True)
class _Refused:
    """A generation that came damaged. ``until``, monotonic seconds, it is not fetched; ``pause`` lasted so long."""

    until: float
    pause: float


class Follower:
    """Of one index in one process."""

    def __init__(self, spec: IndexSpec, engine: str) -> None:
        self._spec, self._engine = spec, engine
        self._generations = Generations(spec.root)
        self._thread: threading.Thread | None = None
        self._next_look = 0.0  # monotonic seconds
        self._starting, self._fetching = threading.Lock(), threading.Lock()
        self._damaged: tuple[str, Stamp | None] = ("", None)
        self._refused: dict[Published, _Refused] = {}

    def fetch_again(self, name: str, stamp: Stamp | None) -> None:
        """What this pointer named could not be opened here; nothing newer may come for a long time."""
        self._damaged = (name, stamp)

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
        if depot is None:
            return
        for published in depot.published():
            if not self._is_news(published):
                return
            if not self._is_refused(published) and self._take(depot, published):
                return

    def _is_news(self, published: Published) -> bool:
        try:
            here = self._generations.published()
        except (IndexNotBuilt, IndexDamaged):
            return True
        if here == published:
            return self._damaged_here() == here.name
        return number_of(published.name) >= number_of(here.name)

    def _damaged_here(self) -> str:
        """The name of what serves here, if it is damaged and no other process has mended it since that was seen."""
        name, stamp = self._damaged
        return name if stamp == self._generations.stamp() else ""

    def _is_refused(self, published: Published) -> bool:
        refused = self._refused.get(published)
        return refused is not None and time.monotonic() < refused.until

    def _take(self, depot: Depot, published: Published) -> bool:
        """False where it did not come whole: the one before it may."""
        draft = self._generations.receive(published.name)
        if draft is None:
            return True  # another process of this host is at it
        try:
            self._fetch(depot, published, draft)
            if self._generations.adopt(draft, published.manifest_sha256, damaged=self._damaged_here()):
                logger.info("fetched generation %s of %s", published.name, self._spec.root.name)
        except (IndexDamaged, FileNotFoundError) as error:
            self._refuse(published, error)
            return False
        finally:
            self._generations.drop(draft)
        self._refused.pop(published, None)
        return True

    def _refuse(self, published: Published, error: Exception) -> None:
        before = self._refused.get(published)
        pause = min(LONGEST_PAUSE_SECONDS, 2 * before.pause) if before else LOOK_AFTER_FAILURE_SECONDS
        self._refused[published] = _Refused(time.monotonic() + pause, pause)
        logger.warning(
            "generation %s of %s cannot be used as it lies in the storage, and is fetched again in %.0f s: %r",
            *(published.name, self._spec.root.name, pause, error),
        )

    def _fetch(self, depot: Depot, published: Published, draft: Draft) -> None:
        depot.fetch(published.name, MANIFEST, draft.folder)
        manifest = read_manifest(draft.folder, published.manifest_sha256)
        check_agrees(manifest, self._spec, self._engine)
        fetch_checked(depot, published.name, manifest.files, draft.folder)


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
