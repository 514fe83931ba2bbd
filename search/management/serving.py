"""Letting another model serve, as commands do it and say it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from kombu.exceptions import OperationalError as BrokerError
from tqdm import tqdm

from catalog.exceptions import CannotServe, ModelUnavailable
from catalog.models import EmbeddingModel
from search import tasks
from search.teaching.requests import switch


def serve(model: EmbeddingModel, out: OutputWrapper) -> None:
    """Switch, and ask a worker for its index. Raises CommandError where it may not, or cannot, serve."""
    try:
        with tqdm(unit=" embeddings", disable=None, leave=False) as bar:
            before = switch(model, None, lambda done, total: _show(bar, done, total))
    except (CannotServe, ModelUnavailable) as error:
        raise CommandError(str(error)) from error
    if before is None:
        out.write(f"{model} serves {model.pipeline}.")
    else:
        out.write(f"{model} serves {model.pipeline} now, instead of {before}.")
        out.write(f"The way back: manage.py serve_model --pipeline {model.pipeline} --back")
    try:
        tasks.rebuild.delay(str(model.pk))
        out.write("A worker builds its index; until there is one, search answers exactly from the database.")
    except BrokerError:
        out.write("Redis does not answer: until beat or `manage.py rebuild_index` builds its index, search is exact.")


def _show(bar: tqdm[Any], done: int, total: int) -> None:
    bar.total, bar.n = total, done
    bar.refresh()
