"""Running checks one after the other, and mending what they find."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from catalog.doctor.findings import CannotLook, Check, Finding, Looking

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finding and what became of it. ``why``: what kept it from being mended, where that was tried."""

    finding: Finding
    mended: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Unseen:
    """What could not be examined, or not to its end, and why."""

    about: str
    why: str


def examine(checks: Iterable[Check], looking: Looking, *, fix: bool = False) -> Iterator[Outcome | Unseen]:
    """What each check finds, as it is found; with ``fix`` each is mended at once, where that can be done."""
    for check in checks:
        try:
            for finding in check.find(looking):
                yield _mended(finding) if fix else Outcome(finding)
        except Exception as error:
            logger.debug("%s could not be examined", check.about, exc_info=error)
            yield Unseen(check.about, _words(error))


def _mended(finding: Finding) -> Outcome:
    if finding.mend is None:
        return Outcome(finding)
    try:
        return Outcome(finding, mended=finding.mend())
    except Exception as error:
        logger.debug("%s of %s could not be mended", finding.code, finding.subject, exc_info=error)
        return Outcome(finding, why=_words(error))


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CannotLook) else f"{type(error).__name__}: {text}"
