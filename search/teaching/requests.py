"""Teaching as a worker does it for somebody who asked in the admin, and how far it is with that or with a switch.

What was taught is a row. How far it is, and why it came to nothing, is in the cache for a day: nothing depends on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.contrib.auth.models import User
from django.core.cache import cache
from django.utils import timezone

from catalog.curation.log import Kind, record
from catalog.models import Collection, EmbeddingModel
from search.teaching.errors import TeachingFailed, TeachingRefused
from search.teaching.reading import LabelSource
from search.teaching.teaching import Wish, teach

KEPT_SECONDS = 86_400
BUSY_SECONDS = 3_600  # a worker that says nothing for so long is gone
CLAIM_SECONDS = 2  # from looking whether it is busy to saying that it is
REQUESTED = "waiting for a worker"
AGAIN = "Teaching gave nothing new: the same head as before"
UNEXPECTED = "Something unexpected went wrong; the worker's log says what."


@dataclass(frozen=True, slots=True)
class Report:
    """``busy``: what is being done, empty at the end; ``said``: what came of it. ``model``: key of the row, if any."""

    busy: str = ""
    said: str = ""
    went_wrong: bool = False
    model: str = ""


def reported(pipeline: str) -> Report | None:
    """None where nothing was asked for lately, or the cache is away."""
    found = cache.get(_key(pipeline))
    return Report(**found) if found else None


def report(pipeline: str, about: Report) -> None:
    cache.set(_key(pipeline), asdict(about), BUSY_SECONDS if about.busy else KEPT_SECONDS)
    if not about.busy:
        cache.delete(_claim_key(pipeline))


def claim(pipeline: str, about: Report) -> bool:
    """Report that this is busy; False, and nothing is said, where it is already. Of two at once one gets it."""
    found = reported(pipeline)
    if found is not None and found.busy:
        return False
    key = _claim_key(pipeline)
    if not cache.add(key, True, CLAIM_SECONDS) and cache.get(key):  # a cache that is away adds nothing and has nothing
        return False
    report(pipeline, about)
    return True


def _key(pipeline: str) -> str:
    return f"teach-{pipeline}"


def _claim_key(pipeline: str) -> str:
    return f"teach-claim-{pipeline}"


def teach_on_request(
    pipeline: str, source: str, collection: str | None, name: str, user: int | None, *, seed: int = 0
) -> None:
    """Teach, and say in the log and in the report what came of it."""
    began = timezone.now()
    try:
        wish = Wish(pipeline, LabelSource(source), _collection(collection), name, seed)
        model = teach(wish, step=lambda what: report(pipeline, Report(busy=what)))
    except (TeachingRefused, TeachingFailed) as error:
        report(pipeline, Report(said=str(error), went_wrong=True))
        return
    except Exception:
        report(pipeline, Report(said=UNEXPECTED, went_wrong=True))
        raise
    is_new = model.created_at >= began
    log(user, model, f"{'Taught it' if is_new else AGAIN}. {model.teaching['decision']}", Kind.ADDED)
    said = f"Taught {model}" if is_new else f"{AGAIN}, {model}"
    report(pipeline, Report(said=f"{said}. {model.teaching['decision']}", model=str(model.pk)))


def _collection(key: str | None) -> Collection | None:
    if key is None:
        return None
    collection = Collection.objects.filter(pk=key).first()
    if collection is None:
        raise TeachingRefused("The collection is gone meanwhile.")
    return collection


def log(user: int | None, model: EmbeddingModel, message: str, kind: Kind = Kind.CHANGED) -> None:
    """Of a user who is still there; commands log nothing."""
    who = User.objects.filter(pk=user).first() if user is not None else None
    if who is not None:
        record(who, model, message, kind)
