"""Letting another model serve, as commands do it and say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from kombu.exceptions import OperationalError as BrokerError
from tqdm import tqdm

from catalog.embedding_models import embeddings_lacking
from catalog.exceptions import CannotServe, ModelUnavailable
from catalog.models import EmbeddingModel
from search import tasks
from search.engines.errors import EngineError
from search.locks import RebuildRunning
from search.switching.ready import has_index
from search.switching.requests import prepare, switch


def serve(model: EmbeddingModel, out: OutputWrapper) -> None:
    """Compute what it lacks and build its index while the other one serves, then switch.

    Raises CommandError where it may not, or cannot, serve.
    """
    try:
        with tqdm(unit=" embeddings", disable=None, leave=False) as bar:
            prepare(model, shown_on(bar), lambda step, done, total: shown_on(bar, step)(done, total))
            before = switch(model, None)
    except (CannotServe, ModelUnavailable, EngineError, RebuildRunning) as error:
        raise CommandError(str(error)) from error
    _say(model, before, out)


def go_back(model: EmbeddingModel, out: OutputWrapper, *, at_once: bool) -> None:
    """To the model that served before. Raises CommandError where it cannot serve."""
    try:
        with tqdm(unit=" embeddings", disable=None, leave=False) as bar:
            before = switch(model, None, shown_on(bar), at_once=at_once)
    except (CannotServe, ModelUnavailable) as error:
        raise CommandError(str(error)) from error
    _say(model, before, out)
    if at_once:
        lacking = embeddings_lacking(model)
        out.write(f"Embeddings that it lacks: {lacking}. What they are of is found when workers have computed them.")
        ask_workers(out)


def _say(model: EmbeddingModel, before: EmbeddingModel | None, out: OutputWrapper) -> None:
    if before is None:
        out.write(f"{model} serves {model.pipeline}.")
        return
    out.write(f"{model} serves {model.pipeline} now, instead of {before}.")
    out.write(f"The way back: manage.py model back --pipeline {model.pipeline}")
    if has_index(model):
        return
    try:
        tasks.rebuild.delay(str(model.pk))
        out.write("A worker builds its index; until there is one, search answers exactly from the database.")
    except BrokerError:
        out.write("Redis does not answer: until beat or `manage.py rebuild_index` builds its index, search is exact.")


def ask_workers(out: OutputWrapper) -> None:
    """To fill the models that are kept, now and not within the minute."""
    try:
        tasks.fill.delay()
    except BrokerError:
        out.write("Redis does not answer: workers begin when beat asks them.")


def shown_on(bar: tqdm[Any], step: str = "") -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if step:
            bar.set_description(step, refresh=False)
        bar.total, bar.n = total, done
        bar.refresh()

    return show
