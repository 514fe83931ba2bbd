"""From a query to an answer.

1. who may search where: collections, and a label, become a scope
2. the query's vector: extracted from a file with the very models that serve, kept from an earlier request of the page
   (Query), or read from the database
3. the nearest images (search.nearest), of what this process answers with (search.serving)
4. similarity from the model's measured distances
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from catalog.embedding_models import runnable_models, serving_model
from catalog.exceptions import ModelUnavailable, NoServingModel
from catalog.models import Collection, EmbeddingModel, Image, Region
from catalog.regions import FACE, box_of, detection_of
from catalog.selectors import vector_of_region
from catalog.vision import helper, registry
from catalog.vision.extract import extract
from catalog.vision.types import Box, DecodedImage, ExtractedRegion
from search import ahead, serving
from search.exceptions import FaceOutOfRange, FacesNotAllowed, NothingToSearchWith, QueryOutdated, UnknownPipeline
from search.explaining import Explanation
from search.measured import measured
from search.nearest import Wanted, nearest_images
from search.ranking import similarity

if TYPE_CHECKING:
    from catalog.querysets import CollectionQuerySet, Viewer

logger = logging.getLogger(__name__)

IMAGE, DIGIT = "image", "digit"
MAX_K = 100


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a viewer may choose. ``k`` counts images, 1 to MAX_K."""

    viewer: Viewer
    pipeline: str | None = None  # None: faces when allowed and found, else the first other that runs where is searched
    k: int = 20
    face: int | None = None  # index into the query's regions; None: the best
    collections: tuple[Collection, ...] | None = None  # None: all that this viewer may search
    label: str = ""  # only images with this very label
    beyond_near: bool = False  # also what is farther than the model's measured *near*


@dataclass(frozen=True, slots=True)
class QueryRegion:
    """A region found in the query, in pixels of the oriented original."""

    pipeline: str
    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A region of a query and its vector, float32 (dimension,), by the model with this fingerprint."""

    region: QueryRegion
    fingerprint: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Query:
    """What a search needs of a photo, with nothing in it that could be looked at.

    ``width`` and ``height`` in pixels, oriented. ``vectors`` are grouped by pipeline, best first within one.
    ``looked_for``: the pipelines that ran, of which some may have found nothing. ``unavailable``: those that should
    have run and have no model now.
    """

    width: int
    height: int
    vectors: tuple[QueryVector, ...]
    looked_for: tuple[str, ...]
    unavailable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """An image and the region of it that is nearest. ``similarity`` is None for a model that nobody measured."""

    image: Image
    region: Region
    distance: float
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """``generation`` is None where the answer is exact, from the database, because no generation can answer.

    ``width`` and ``height`` are the query's, oriented, in pixels. ``searched`` is the index of the region that was
    searched with, None where the query has none (no face in it). ``explanation`` is for staff only.
    """

    pipeline: str
    model: EmbeddingModel
    generation: str | None
    width: int
    height: int
    regions: tuple[QueryRegion, ...]
    searched: int | None
    results: tuple[Match, ...]
    explanation: Explanation


def search_by_image(file: BinaryIO, name: str, options: SearchOptions) -> Answer:
    """Search with a file, which is neither stored nor logged.

    Raises ImageRefused, NothingToCompare, UnknownPipeline, FacesNotAllowed, FaceOutOfRange, ModelUnavailable,
    NoServingModel.
    """
    pipelines = _pipelines_to_try(options)
    decoded = helper.read_image(file, name, registry.limits())
    for pipeline in pipelines:
        (model,) = runnable_models([pipeline])
        regions = _extract(decoded, model)
        if regions:
            break
    chosen = _choose(len(regions), options.face)
    answer = Answer(
        pipeline=model.pipeline,
        model=model,
        generation=None,
        width=decoded.header.width,
        height=decoded.header.height,
        regions=tuple(QueryRegion(model.pipeline, r.detection.box, r.detection.score) for r in regions),
        searched=chosen,
        results=(),
        explanation=Explanation(None),
    )
    if chosen is None:
        generation = serving.snapshot(model).generation
        return replace(answer, generation=generation, explanation=Explanation(generation))
    return _with_results(answer, regions[chosen].vectors[model.embedder], options)


def read_query(decoded: DecodedImage, viewer: Viewer) -> Query:
    """All that this viewer may search with in a photo: the whole image, and faces where they may search any.

    A pipeline without a model is left out while another has one. Raises ModelUnavailable, NoServingModel.
    """
    found: dict[str, list[QueryVector]] = {}
    problems: dict[str, Exception] = {}
    for pipeline in _pipelines_of(viewer):
        try:
            (model,) = runnable_models([pipeline])
            found[pipeline] = [_query_vector(region, model) for region in _extract(decoded, model)]
        except (ModelUnavailable, NoServingModel) as error:
            logger.error("searching without the pipeline %s: %s", pipeline, error)
            problems[pipeline] = error
    if not found:
        raise next(iter(problems.values()))
    vectors = tuple(vector for of_pipeline in found.values() for vector in of_pipeline)
    return Query(decoded.header.width, decoded.header.height, vectors, tuple(found), tuple(problems))


def best_vector(query: Query, options: SearchOptions) -> int | None:
    """Index of the first vector that may be searched with under these options; None: none of them."""
    return _first_searchable([each.region.pipeline for each in query.vectors], options)


def waits_for_a_model(query: Query, options: SearchOptions) -> bool:
    """Whether there is something to search with under these options as soon as a model that is missing serves."""
    return any(_searchable(pipeline, options).exists() for pipeline in query.unavailable)


def search_by_query(query: Query, number: int, options: SearchOptions) -> Answer:
    """Search with the vector of this index.

    Raises QueryOutdated where another model serves by now, NothingToCompare, FacesNotAllowed, NoServingModel.
    """
    chosen = query.vectors[number]
    model = serving_model(chosen.region.pipeline)
    if model.fingerprint != chosen.fingerprint:
        raise QueryOutdated
    _check_allowed(model.pipeline, options)
    answer = Answer(
        pipeline=model.pipeline,
        model=model,
        generation=None,
        width=query.width,
        height=query.height,
        regions=tuple(each.region for each in query.vectors),
        searched=number,
        results=(),
        explanation=Explanation(None),
    )
    return _with_results(answer, chosen.vector, options)


def stored_regions(image: Image, viewer: Viewer) -> list[Region]:
    """The regions of a stored image that this viewer may search with: by pipeline as in the settings, best first."""
    order = list(registry.pipelines())
    shown = Region.objects.visible_to(viewer).filter(image=image, pipeline__in=order, dismissed=False)
    regions = sorted(shown.select_related("image", "person"), key=_prominence, reverse=True)
    return sorted(regions, key=lambda region: order.index(region.pipeline))


def best_region(regions: Sequence[Region], options: SearchOptions) -> Region | None:
    """The first of a stored image's regions that may be searched with under these options; None: none of them."""
    number = _first_searchable([region.pipeline for region in regions], options)
    return None if number is None else regions[number]


def search_by_region(region: Region, options: SearchOptions) -> Answer:
    """Search with the stored vector of a region; its own image is not among the results.

    Raises NothingToSearchWith where it has no vector yet or one that is of no use, FacesNotAllowed, NoServingModel.
    """
    model = serving_model(region.pipeline)
    _check_allowed(region.pipeline, options)
    vector = vector_of_region(region, model)
    if vector is None:
        raise NothingToSearchWith(f"Region {region.pk} has no embedding yet. Wait until its image is ready.")
    answer = Answer(
        pipeline=region.pipeline,
        model=model,
        generation=None,
        width=region.image.width,
        height=region.image.height,
        regions=(_query_region(region),),
        searched=0,
        results=(),
        explanation=Explanation(None),
    )
    return _with_results(answer, vector, options, without=region.image)


def search_by_stored_image(image: Image, options: SearchOptions) -> Answer:
    """Search with a stored image, by the same choice of pipeline and face as for a file.

    Raises as search_by_region, and UnknownPipeline, FaceOutOfRange.
    """
    stored = stored_regions(image, options.viewer)
    for pipeline in _pipelines_to_try(options):
        regions = [region for region in stored if region.pipeline == pipeline]
        if regions:
            break
    chosen = _choose(len(regions), options.face)
    if chosen is None:
        raise NothingToSearchWith(f"Image {image.pk} has no region to search with. It may be waiting, or hold no face.")
    answer = search_by_region(regions[chosen], options)
    return replace(answer, regions=tuple(_query_region(region) for region in regions), searched=chosen)


def is_whole(pipeline: str) -> bool:
    """Whether this pipeline compares images as wholes; its box need not be shown. False for one that is gone."""
    known = registry.pipelines()
    return pipeline in known and known[pipeline].is_whole


def _prominence(region: Region) -> float:
    """Detectors put first what is large and certain (catalog.vision.detectors.mtcnn); so do we with stored regions."""
    detection = detection_of(region)
    return detection.box.area * detection.score


def _pipelines_of(viewer: Viewer) -> list[str]:
    """Pipelines with a collection in which this viewer may search, and always the whole image."""
    everywhere = SearchOptions(viewer)
    return [name for name in registry.pipelines() if name == IMAGE or _searchable(name, everywhere).exists()]


def _query_vector(region: ExtractedRegion, model: EmbeddingModel) -> QueryVector:
    where = QueryRegion(model.pipeline, region.detection.box, region.detection.score)
    return QueryVector(where, model.fingerprint, region.vectors[model.embedder])


def _query_region(region: Region) -> QueryRegion:
    return QueryRegion(region.pipeline, box_of(region), detection_of(region).score)


def _pipelines_to_try(options: SearchOptions) -> Iterable[str]:
    """What was asked for, else faces and then the others as in the settings, where they may be searched.

    Only the first of them that finds something in the query is searched with. The last one sees the whole image, so
    that there always is one.
    """
    if options.pipeline is None:
        return _searchable_pipelines(options)
    known = list(registry.pipelines())
    if options.pipeline not in known:
        raise UnknownPipeline(f"There is no pipeline {options.pipeline!r}. Take one of: {', '.join(known)}.")
    _check_allowed(options.pipeline, options)
    return (options.pipeline,)


def _searchable_pipelines(options: SearchOptions) -> Iterator[str]:
    """Asks the database for one after the other: mostly the first one will do."""
    sees_all = False
    for name in sorted(registry.pipelines(), key=lambda name: name != FACE):
        if _searchable(name, options).exists():
            sees_all |= is_whole(name)
            yield name
    if not sees_all:
        yield IMAGE


def _check_allowed(pipeline: str, options: SearchOptions) -> None:
    if pipeline == FACE and not _searchable(FACE, options).exists() and not options.viewer.is_superuser:
        raise FacesNotAllowed(
            "There is no collection here in which you may search faces. Sign in, or search with pipeline=image."
        )


def _searchable(pipeline: str, options: SearchOptions) -> CollectionQuerySet:
    """The collections in which this viewer may search with this pipeline, within those asked for."""
    if pipeline == FACE:
        allowed = Collection.objects.face_searchable_by(options.viewer)
    else:
        allowed = Collection.objects.visible_to(options.viewer).filter(pipelines__contains=[pipeline])
    if options.collections is not None:
        allowed = allowed.filter(pk__in=[collection.pk for collection in options.collections])
    return allowed


def _first_searchable(pipelines: Sequence[str], options: SearchOptions) -> int | None:
    """Index of the first of these pipelines, which may repeat, that may be searched with."""
    for pipeline in dict.fromkeys(pipelines):
        if _searchable(pipeline, options).exists():
            return pipelines.index(pipeline)
    return None


def _extract(decoded: DecodedImage, model: EmbeddingModel) -> Sequence[ExtractedRegion]:
    return extract(decoded, [model.pipeline], {model.pipeline: [model.embedder]}).regions


def _choose(count: int, face: int | None) -> int | None:
    if face is None:
        return 0 if count else None
    if not 0 <= face < count:
        found = "no region was" if count == 0 else f"{count} were" if count > 1 else "1 was"
        raise FaceOutOfRange(f"face={face}, but {found} found in the query. Count from 0.")
    return face


def _with_results(
    answer: Answer, vector: NDArray[np.float32], options: SearchOptions, without: Image | None = None
) -> Answer:
    same, near = measured(answer.model)
    wanted = Wanted(
        model=answer.model,
        collections=list(_searchable(answer.pipeline, options)),
        viewer=options.viewer,
        k=options.k,
        label=options.label,
        without=without,
        limit=None if options.beyond_near else near,
    )
    ahead.look(answer.pipeline)
    found, explanation = nearest_images(serving.snapshot(answer.model), vector, wanted)
    results = [Match(region.image, region, each, similarity(each, same, near)) for region, each in found]
    return replace(answer, generation=explanation.generation, results=tuple(results), explanation=explanation)
