"""Evaluations of collections that somebody asked for in the admin, made by a worker."""

from __future__ import annotations

import logging
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured

from catalog.embedding_models import serving_model
from catalog.exceptions import NoServingModel
from catalog.models import Collection, EmbeddingModel
from search import progress
from search.evaluation.collections import read_collection
from search.evaluation.evaluation import evaluate
from search.evaluation.metrics import NotMeasurable
from search.evaluation.records import keep, keep_failure, metric_of
from search.locks import held
from search.models import EvaluationRun

logger = logging.getLogger(__name__)

READING, COMPARING = "reading its embeddings", "comparing them"


def subject(collection: UUID | str, pipeline: str) -> str:
    """What progress is reported of."""
    return f"evaluation-{collection}-{pipeline}"


def running(collection: Collection, pipeline: str) -> progress.BuildProgress | None:
    """How far an evaluation is that somebody asked for, None where nobody did."""
    return progress.reported(subject(collection.pk, pipeline))


def evaluate_on_request(collection_id: str, pipeline: str, user_id: int | None) -> EvaluationRun | None:
    """Evaluate the model that serves; why it could not be done is in the run that is kept. None: nothing to do.

    A message that comes twice evaluates once: what another worker is at is left to it.
    """
    about = subject(collection_id, pipeline)
    with held(about) as is_ours:
        if not is_ours:
            logger.info("%s is being made by another worker", about)
            return None
        with progress.kept_alive(about):
            return _evaluate_alone(collection_id, pipeline, user_id, about)


def _evaluate_alone(collection_id: str, pipeline: str, user_id: int | None, about: str) -> EvaluationRun | None:
    try:
        collection = Collection.objects.filter(pk=collection_id).first()
        if collection is None:
            return None
        model = serving_model(pipeline)
        user = User.objects.filter(pk=user_id).first() if user_id is not None else None
        return _evaluate(collection, model, user, about)
    except NoServingModel as error:
        logger.error("evaluating %s: %s", collection_id, error)
        return None
    finally:
        progress.forget(about)


def _evaluate(collection: Collection, model: EmbeddingModel, user: User | None, about: str) -> EvaluationRun:
    try:
        _tell(about, READING)
        reading = read_collection(collection, model)
        _tell(about, COMPARING)
        return keep(evaluate(reading, None, metric_of(model)), model, collection=collection, user=user)
    except (NotMeasurable, ImproperlyConfigured) as error:
        return keep_failure(model, collection, user, str(error))
    except Exception:
        logger.exception("the evaluation of %s (%s) failed", collection, model.pipeline)
        keep_failure(model, collection, user, "Something unforeseen went wrong; the worker's log says what.")
        raise


def _tell(about: str, step: str) -> None:
    """A worker that dies meanwhile says nothing more: what it said last is forgotten before long."""
    progress.report(about, progress.BuildProgress(step), progress.REQUEST_SECONDS)
