"""Shells that Celery calls; the work is in search.indexing."""

from __future__ import annotations

from celery import shared_task

from search.indexing import rebuild_due_indexes, rebuild_on_request


@shared_task(name="search.tasks.rebuild_if_needed")
def rebuild_if_needed() -> None:
    """Beat asks every five minutes."""
    rebuild_due_indexes()


@shared_task(name="search.tasks.rebuild")
def rebuild(model_id: str) -> None:
    """Somebody asked for it, whether it is due or not."""
    rebuild_on_request(model_id)
