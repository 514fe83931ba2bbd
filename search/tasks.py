"""Shells that Celery calls; the work is in search.indexing, search.evaluation, search.teaching, search.switching."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.core.cache import cache

from search.evaluation.requests import evaluate_on_request
from search.indexing import rebuild_due_indexes, rebuild_on_request
from search.switching.background import QUEUED_KEY, QUEUED_SECONDS, fill_a_while
from search.switching.comparing import compare_on_request
from search.switching.ready import has_index
from search.switching.removal import drop_on_request
from search.switching.requests import serve_on_request
from search.teaching.requests import BUSY_SECONDS, teach_on_request


@shared_task(name="search.tasks.rebuild_if_needed")
def rebuild_if_needed() -> None:
    """Beat asks every five minutes."""
    rebuild_due_indexes()


@shared_task(name="search.tasks.rebuild")
def rebuild(model_id: str) -> None:
    """Somebody asked for it, whether it is due or not."""
    rebuild_on_request(model_id)


@shared_task(name="search.tasks.evaluate")
def evaluate(collection_id: str, pipeline: str, user_id: int | None) -> None:
    """Somebody asked how well a collection is found."""
    evaluate_on_request(collection_id, pipeline, user_id)


@shared_task(name="search.tasks.teach")
def teach(
    pipeline: str, source: str, collection_id: str | None, name: str, user_id: int | None, *, seed: int = 0
) -> None:
    """Somebody asked to teach a head."""
    teach_on_request(pipeline, source, collection_id, name, user_id, seed=seed)


@shared_task(name="search.tasks.fill")
def fill() -> None:
    """Beat asks every minute, and whoever asks for a model: fill those that are kept, after uploads, for a while.

    Where more is left a message is sent for it, one at a time however many asked.
    """
    cache.delete(QUEUED_KEY)
    done = fill_a_while()
    for model in done.to_index:
        rebuild.delay(str(model.pk))
    if done.more and cache.add(QUEUED_KEY, True, QUEUED_SECONDS):
        fill.delay()


@shared_task(name="search.tasks.compare")
def compare(model_id: str, collection_id: str, user_id: int | None) -> None:
    """Somebody asked how a model does beside the one that serves."""
    compare_on_request(model_id, collection_id, user_id)


# Expires when the page says no more that somebody asked, and before Redis delivers it again to another worker.
@shared_task(name="search.tasks.serve", expires=BUSY_SECONDS)
def serve(model_id: str, user_id: int | None, as_seen: str) -> None:
    """Somebody asked for another model to serve; its index is built next, where it has none.

    ``as_seen``: what catalog.embedding_models.what_is_seen said then.
    """
    row = serve_on_request(UUID(model_id), user_id, as_seen)
    if row is not None and not has_index(row):
        rebuild_on_request(model_id)


@shared_task(name="search.tasks.drop")
def drop(model_id: str, user_id: int | None, *, force: bool = False) -> None:
    """Somebody asked for a model to go with all that it has."""
    drop_on_request(model_id, user_id, force=force)
