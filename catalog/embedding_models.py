"""Which embedding model serves: settings say what can run, rows say what does."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from catalog import filling, filling_from_images
from catalog.exceptions import CannotServe, ModelChanged, ModelUnavailable, NoServingModel, StorageUnavailable
from catalog.lineage import lineage
from catalog.models import Embedding, EmbeddingModel
from catalog.selectors import vector_state
from catalog.vision import heads, registry
from catalog.vision.registry import ModelDescription

State, Fill = EmbeddingModel.State, EmbeddingModel.Fill
LATE = 16  # embeddings from images that are computed while everybody who stores has to wait
ROUNDS = 5  # of computing what came while the round before was computed, until no more than LATE are left
MOST = 0.5  # of what the model before finds must a model have that serves at once


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


@dataclass(frozen=True, slots=True)
class Beside:
    """What was there when nothing was lacking any more, or what came last alone, while the other one served.

    ``present`` served then, its highest embedding was ``found``, that of the base of a taught model ``of_base``.
    ``lowest``: the model's own first embedding.
    """

    present: EmbeddingModel | None
    found: int
    of_base: int
    lowest: int


def make_serving(
    row: EmbeddingModel, progress: filling.Progress | None = None, *, at_once: bool = False, as_seen: str = ""
) -> EmbeddingModel | None:
    """Let this model serve its pipeline, and return the one that did before (None: none, or this one already).

    1. refuse a taught model that did not pass its gate, and whatever cannot run as it was registered
    2. compute the embeddings that it lacks, while the other one serves: of a taught model from its base's vectors, else
       from the images; refuse where images could not be read, or where more come than are computed
    3. in one transaction: lock the pipeline's models, so that nobody stores meanwhile; compute what came since; refuse
       where anything of it that the other one finds would be lost; switch the two states. Workers keep the one before
       up to date from now on, so that the way back is as short (catalog.keeping)

    ``at_once``: for the way back in an emergency. Nothing is computed first: what this model lacks is found when
    workers have computed it. Refused where that is most of it, or where this is not, or no more, the way back.

    ``as_seen``: what `what_is_seen` said when this was asked for. Refused where it says something else by now.

    Processes ask for the serving row at every query and every batch, and keep what they began with to its end; images
    that were looked at with the model before are looked at again (catalog.storing). Indexes are of a model: search
    answers exactly until there is one. Raises CannotServe.
    """
    check_may_serve(row)
    if at_once:
        _check_has_most(row)
    beside = None if at_once else fill_beside(row, progress)
    with transaction.atomic():
        rows = EmbeddingModel.objects.filter(pipeline=row.pipeline)
        locked = {each.pk: each for each in rows.select_for_update().order_by("pk")}
        row = locked[row.pk]
        present = next((each for each in locked.values() if each.state == State.SERVING), None)
        if present == row:
            return None
        check_as_seen(row, as_seen)
        check_may_serve(row)
        if beside is not None:
            _complete(row, present, beside)
        elif row.retired_at is None:
            raise CannotServe(f"{row} is no way back of {row.pipeline}, or no more: somebody began to drop it.")
        _switch(row, present, at_once)
    return present


def what_is_seen(row: EmbeddingModel) -> str:
    """What whoever asks for a switch goes by: which model serves, and when this one last ceased to. For comparing."""
    present = _serving().filter(pipeline=row.pipeline).values_list("pk", flat=True).first()
    ceased = EmbeddingModel.objects.filter(pk=row.pk).values_list("retired_at", flat=True).first()
    return f"{present or ''} {ceased.isoformat() if ceased else ''}"


def check_as_seen(row: EmbeddingModel, as_seen: str) -> None:
    """A message may come late, or twice. Raises CannotServe where it is not to be obeyed any more."""
    if as_seen and what_is_seen(row) != as_seen:
        raise CannotServe(
            f"{row} was not made to serve: another model began to serve {row.pipeline} after somebody asked for it, or "
            f"it served, and somebody went back. Ask once more."
        )


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
    return lacking_from_images(row) + lacking_from_vectors(row)


def lacking_from_images(row: EmbeddingModel) -> int:
    """Those for which images have to be opened: 50 ms and more each."""
    return filling_from_images.lacking(lineage(row)[0]).count()


def lacking_from_vectors(row: EmbeddingModel) -> int:
    """Those of a taught model that are moved from its base's, 0.1 ms each; not counted what the base lacks itself."""
    return filling.lacking(row).count() if row.derived_from else 0


def fill_beside(row: EmbeddingModel, progress: filling.Progress | None = None) -> Beside:
    """Compute what it lacks while everybody goes on storing; what was there then.

    What still lacks an embedding up to there could not be computed. Raises CannotServe for that, where more comes than
    is computed, and where the originals cannot be read.
    """
    for _ in range(ROUNDS):
        beside = _beside(row)
        if not embeddings_lacking(row):  # one look at everything, where there is no more to do
            return beside
        _fill(row, progress)
        beside = replace(beside, lowest=_lowest_id(row))
        late = _late(row, beside.found)
        if late <= LATE:
            return beside
    raise CannotServe(f"{row} cannot serve yet: {late} regions were stored meanwhile. Do the same again.")


def _beside(row: EmbeddingModel) -> Beside:
    present = _serving().filter(pipeline=row.pipeline).first()
    return Beside(present, _highest_id(present), _highest_id(row.derived_from), _lowest_id(row))


def _highest_id(model: EmbeddingModel | None) -> int:
    """0 where there is none. Ids of one model commit in order: what is stored later is above it."""
    stored = Embedding.objects.filter(model=model).order_by("-id")
    return (stored.values_list("id", flat=True).first() or 0) if model is not None else 0


def _lowest_id(model: EmbeddingModel) -> int:
    """0 where there is none. Whoever drops a model deletes its first embeddings first (search.switching.removal)."""
    return Embedding.objects.filter(model=model).order_by("id").values_list("id", flat=True).first() or 0


def _ids_since(model: EmbeddingModel | None, last_id: int) -> list[int]:
    since = Embedding.objects.filter(model=model, id__gt=last_id).order_by("id")
    return list(since.values_list("id", flat=True)) if model is not None else []


def _fill(row: EmbeddingModel, progress: filling.Progress | None = None) -> None:
    """Raises CannotServe."""
    with _from_originals(row):
        for each in lineage(row):
            (filling if each.derived_from else filling_from_images).fill(each, progress)


@contextmanager
def _from_originals(row: EmbeddingModel) -> Iterator[None]:
    try:
        yield
    except StorageUnavailable as error:
        raise CannotServe(f"{row} cannot serve yet. {error}") from error


def _late(row: EmbeddingModel, tried: int) -> int:
    """How many came since; raises CannotServe where something up to ``tried`` could not be computed."""
    base = lineage(row)[0]
    counts = filling_from_images.lacking(base).aggregate(failed=Count("id", filter=Q(id__lte=tried)), left=Count("id"))
    if counts["failed"]:
        raise CannotServe(_incomplete(row, counts["failed"]))
    return int(counts["left"]) + lacking_from_vectors(row)


def _check_has_most(row: EmbeddingModel) -> None:
    present = _serving().filter(pipeline=row.pipeline).first()
    have, of = (vector_state(each).count if each else 0 for each in (row, present))
    if have < MOST * of:
        raise CannotServe(
            f"{row} has {have} embeddings and {present}, which serves, {of}: most of what is found now would not be "
            f"found any more. Go back without --now (in the admin: not at once): what is lacking is computed first."
        )


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


def _complete(row: EmbeddingModel, present: EmbeddingModel | None, beside: Beside) -> None:
    """Nobody stores meanwhile, so only what came since is computed and looked at, in milliseconds.

    All is looked at where that is not all: another model serves by now, or somebody drops this one. Raises CannotServe.
    """
    is_as_it_was = present == beside.present and _lowest_id(row) == beside.lowest
    came = _ids_since(present, beside.found) if is_as_it_was else []
    _fill_since(row, came, beside.of_base)
    mine = Embedding.objects.filter(model=row, region=OuterRef("region"))
    lost = Embedding.objects.filter(~Exists(mine), model=present)
    count = (lost.filter(pk__in=came) if is_as_it_was else lost).count() if present is not None else 0
    if count:
        raise CannotServe(_incomplete(row, count))


def _fill_since(row: EmbeddingModel, came: Sequence[int], of_base: int) -> None:
    """By their ids, which are few: the database would plan for half of all above a number."""
    base = lineage(row)[0]
    with _from_originals(row):
        filling_from_images.fill(base, among=came)
    if row != base:
        filling.fill(row, among=_ids_since(base, of_base))


def _incomplete(row: EmbeddingModel, count: int) -> str:
    return (
        f"{row} cannot serve yet: {count} of the regions that are found now have no embedding of it, and no search "
        f"would find them any more. Where images could not be read, the log names them."
    )


def previous_model(pipeline: str) -> EmbeddingModel | None:
    """The one that served last before the present one: where the way back leads."""
    retired = EmbeddingModel.objects.filter(pipeline=pipeline, state=State.RETIRED, retired_at__isnull=False)
    return retired.order_by("-retired_at").first()
