"""Shells that Celery calls; the work is in search.indexing, search.evaluation and search.teaching."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from search.evaluation.requests import evaluate_on_request
from search.indexing import rebuild_due_indexes, rebuild_on_request
from search.teaching.requests import serve_on_request, teach_on_request


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


@shared_task(name="search.tasks.serve")
def serve(model_id: str, user_id: int | None) -> None:
    """Somebody asked for another model to serve; its index is built next."""
    if serve_on_request(UUID(model_id), user_id) is not None:
        rebuild_on_request(model_id)
