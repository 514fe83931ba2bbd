"""Which embedding model serves: settings say what can run, rows say what does."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import asdict

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet
from django.utils import timezone

from catalog import filling, filling_from_images
from catalog.exceptions import CannotServe, ModelChanged, ModelUnavailable, NoServingModel
from catalog.lineage import lineage
from catalog.models import Embedding, EmbeddingModel
from catalog.vision import heads, registry
from catalog.vision.registry import ModelDescription

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill
LATE = 16  # embeddings from images that are computed while everybody who stores has to wait
ROUNDS = 5  # of computing what came while the round before was computed, until no more than LATE are left


def serving_models() -> list[EmbeddingModel]:
    """One for each pipeline that has one."""
    return list(_serving().order_by("pipeline"))


def serving_model(pipeline: str) -> EmbeddingModel:
    """Raises NoServingModel, saying what to do."""
    model = _serving().filter(pipeline=pipeline).first()
    if model is None:
        raise NoServingModel(f"No embedding model serves the pipeline {pipeline!r}. Run `manage.py models build`.")
    return model


def _serving() -> QuerySet[EmbeddingModel]:
    return EmbeddingModel.objects.filter(state=State.SERVING).select_related("derived_from")


def runnable_models(pipelines: Sequence[str]) -> list[EmbeddingModel]:
    """The serving model of each pipeline, checked to be what the code computes today.

    Raises NoServingModel where none serves, ModelChanged where settings, code or weights have changed since:
    vectors of another fingerprint must never land beside its own. ModelUnavailable where the record of a taught one is
    damaged.
    """
    models = [serving_model(pipeline) for pipeline in pipelines]
    for model in models:
        change = change_of(model)
        if change:
            raise ModelChanged(model.embedder, change)
    return models


def change_of(model: EmbeddingModel) -> str | None:
    """Why a serving model computes nothing any more, in words for everybody, where it is not what settings, code and
    weights make of its embedder today; None where it is. Raises ModelUnavailable as `runnable_models`.
    """
    if _is_what_runs(model):
        return None
    if _has_lost_its_head(model):
        return f"The head of {model.embedder}, which serves {model.pipeline!r}, is gone: {heads.REMEDY}."
    return (
        f"{model.embedder} is no longer the model that serves {model.pipeline!r}: its options, code or weights have "
        f"changed. Put them back: what is stored belongs to the model as it was."
    )


def _has_lost_its_head(model: EmbeddingModel) -> bool:
    return model.derived_from_id is not None and model.embedder not in registry.taught()


def _is_what_runs(model: EmbeddingModel) -> bool:
    """False also where the settings do not have its embedder or its pipeline any more."""
    try:
        about = registry.describe(model.embedder)
    except ImproperlyConfigured:
        return False
    return (about.pipeline, about.fingerprint) == (model.pipeline, model.fingerprint)


def register_models(without: Container[str] = ()) -> list[EmbeddingModel]:
    """A row for every embedder of every pipeline at its present fingerprint; returns the new ones.

    None for those named in ``without``, nor where weights have to be fetched and are not here: they could not compute.
    The first embedder of a pipeline in which nothing serves yet becomes the serving one. Nothing else changes state:
    a new fingerprint waits as ``building`` until somebody switches. Safe to run at any time and twice at once.
    """
    made = []
    for about in registry.descriptions():
        waits = about.name in without or registry.missing_weights(about.name) is not None
        row = None if waits else _register(about)
        if row is not None:
            made.append(row)
    return made


def _register(about: ModelDescription) -> EmbeddingModel | None:
    evaluation = asdict(about.evaluation) if about.evaluation else {}
    with transaction.atomic():
        row, created = EmbeddingModel.objects.get_or_create(
            pipeline=about.pipeline,
            embedder=about.name,
            fingerprint=about.fingerprint,
            defaults={
                "dimension": about.dimension,
                "licence": about.licence,
                "source": about.source,
                "same_distance": evaluation.get("same"),
                "near_distance": evaluation.get("near"),
                "evaluation": evaluation,
            },
        )
        _serve_if_first(row)
        if (row.licence, row.source) != (about.licence, about.source):  # neither decides what the model is
            row.licence, row.source = about.licence, about.source
            row.save(update_fields=["licence", "source"])
        if evaluation and not row.evaluation:  # measured since the row was made
            row.evaluation = evaluation
            row.same_distance, row.near_distance = evaluation["same"], evaluation["near"]
            row.save(update_fields=["evaluation", "same_distance", "near_distance"])
    return row if created else None


def _serve_if_first(row: EmbeddingModel) -> None:
    others = EmbeddingModel.objects.select_for_update().filter(pipeline=row.pipeline)
    if not any(other.state == State.SERVING for other in others):
        EmbeddingModel.objects.filter(pk=row.pk).update(state=State.SERVING)
        row.state = State.SERVING


# --- Switching --------------------------------------------------------------------------------------------------------


def make_serving(
    row: EmbeddingModel, progress: filling.Progress | None = None, *, at_once: bool = False
) -> EmbeddingModel | None:
    """Let this model serve its pipeline, and return the one that did before (None: none, or this one already).

    1. refuse a taught model that did not pass its gate, and whatever cannot run as it was registered
    2. compute the embeddings that it lacks, while the other one serves: of a taught model from its base's vectors, else
       from the images; refuse where images could not be read, or where more come than are computed
    3. in one transaction: lock the pipeline's models, so that nobody stores meanwhile; compute what came since; refuse
       where anything that the other one finds would be lost; switch the two states. Workers keep the one before up to
       date from now on, so that the way back is as short (catalog.keeping)

    ``at_once``: for the way back in an emergency. Nothing is computed first and nothing refused for it: what this model
    lacks is found when workers have computed it.

    Processes ask for the serving row at every query and every batch, and keep what they began with to its end; images
    that were looked at with the model before are looked at again (catalog.storing). Indexes are of a model: search
    answers exactly until there is one. Raises CannotServe.
    """
    check_may_serve(row)
    tried = 0 if at_once else fill_beside(row, progress)
    with transaction.atomic():
        rows = EmbeddingModel.objects.filter(pipeline=row.pipeline)
        locked = {each.pk: each for each in rows.select_for_update().order_by("pk")}
        row = locked[row.pk]
        present = next((each for each in locked.values() if each.state == State.SERVING), None)
        if present == row:
            return None
        check_may_serve(row)
        if not at_once:
            _fill(row, after_id=tried)
            if present is not None:
                _check_complete(row, present)
        _switch(row, present, at_once)
    return present


def _switch(row: EmbeddingModel, present: EmbeddingModel | None, at_once: bool) -> None:
    """The rows of the pipeline are locked. One way back is kept up, not every model that ever served."""
    rows = EmbeddingModel.objects.filter(pipeline=row.pipeline)
    rows.filter(state=State.RETIRED, retired_at__isnull=False).update(fill=Fill.NO)
    rows.update(filled_to=0)  # other embeddings say from now on which regions there are
    if present is not None:
        rows.filter(pk=present.pk).update(state=State.RETIRED, retired_at=timezone.now(), fill=Fill.ASKED)
    rows.filter(pk=row.pk).update(state=State.SERVING, fill=Fill.ASKED if at_once else Fill.NO)


def embeddings_lacking(row: EmbeddingModel) -> int:
    """How many embeddings are to be computed before this model can serve."""
    return sum((filling if each.derived_from else filling_from_images).lacking(each).count() for each in lineage(row))


def fill_beside(row: EmbeddingModel, progress: filling.Progress | None = None) -> int:
    """Compute what it lacks while everybody goes on storing; the highest id of what was there before the images were
    looked at.

    What still lacks an embedding up to there could not be computed. Raises CannotServe for that, and where more comes
    than is computed.
    """
    for _ in range(ROUNDS):
        tried = _highest_found(row)
        _fill(row, progress)
        late = _late(row, tried)
        if late <= LATE:
            return tried
    raise CannotServe(f"{row} cannot serve yet: {late} regions were stored meanwhile. Do the same again.")


def _highest_found(row: EmbeddingModel) -> int:
    present = Embedding.objects.filter(model__pipeline=row.pipeline, model__state=State.SERVING)
    return present.aggregate(highest=Max("id"))["highest"] or 0  # ids of one model commit in order


def _fill(row: EmbeddingModel, progress: filling.Progress | None = None, after_id: int = 0) -> None:
    """``after_id``: no image is opened for embeddings up to that id, which were tried before."""
    for each in lineage(row):
        if each.derived_from:
            filling.fill(each, progress)
        else:
            filling_from_images.fill(each, progress, after_id)


def _late(row: EmbeddingModel, tried: int) -> int:
    """How many came since; raises CannotServe where something up to ``tried`` could not be computed."""
    left = filling_from_images.lacking(lineage(row)[0])
    failed = left.filter(id__lte=tried).count()
    if failed:
        raise CannotServe(_incomplete(row, failed))
    return left.count()


def check_may_serve(row: EmbeddingModel) -> None:
    """Raises CannotServe with the reason, as far as it is known before the switch."""
    if row.passed_gate is False:
        raise CannotServe(f"{row}: {row.teaching.get('decision') or 'It may not serve: it failed its comparison.'}")
    try:
        problem = registry.model_files_problem(row.embedder) if _is_what_runs(row) else _change_since(row)
    except ModelUnavailable as error:
        problem = str(error)
    if problem:
        raise CannotServe(f"{row} cannot serve. {problem}")


def _change_since(row: EmbeddingModel) -> str:
    if _has_lost_its_head(row):
        return f"Its head is gone: {heads.REMEDY}."
    return "Its embedder's options, code or weights are not what they were, or the settings do not have it any more."


def _check_complete(row: EmbeddingModel, present: EmbeddingModel) -> None:
    mine = Embedding.objects.filter(model=row, region=OuterRef("region"))
    count = Embedding.objects.filter(~Exists(mine), model=present).count()
    if count:
        raise CannotServe(_incomplete(row, count))


def _incomplete(row: EmbeddingModel, count: int) -> str:
    return (
        f"{row} cannot serve yet: {count} of the regions that are found now have no embedding of it, and no search "
        f"would find them any more. Where images could not be read, the log names them."
    )


def previous_model(pipeline: str) -> EmbeddingModel | None:
    """The one that served last before the present one: where the way back leads."""
    retired = EmbeddingModel.objects.filter(pipeline=pipeline, state=State.RETIRED, retired_at__isnull=False)
    return retired.order_by("-retired_at").first()
