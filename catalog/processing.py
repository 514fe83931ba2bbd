"""From a stored file to regions with embeddings.

1. claim a batch (catalog.claims): SKIP LOCKED, a lease, a token
2. read and decode each file once
3. extract: detect, crop, embed in batches across images (catalog.vision.extract, the same that queries use)
4. store what came of it (catalog.storing): renditions, then regions, embeddings and the status in one transaction

Whoever dies leaves a lease that runs out; everything up to the one transaction of step 4 can be done again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db.models import F

from catalog import claims, originals, storage
from catalog.database import AWAY, retry_while_away
from catalog.embedding_models import runnable_models
from catalog.exceptions import ImageRefused, ModelChanged, ModelSwitched, ModelUnavailable, NoServingModel
from catalog.lineage import embedders_of
from catalog.models import EmbeddingModel, Image, Region
from catalog.regions import detection_of, drawn_regions
from catalog.storing import Outcome, store
from catalog.vision import helper, registry
from catalog.vision.errors import DecoderStarved, DecoderUnavailable, ModelFailed
from catalog.vision.extract import embed_regions, extract_many, warm_up
from catalog.vision.types import DecodedImage, ExtractedRegion

logger = logging.getLogger(__name__)


def process_batch(first: UUID | None = None) -> int:
    """Claim up to VISEARCH_BATCH waiting images and process them; returns how many were claimed (0: nothing waits).

    Images whose models are missing are given back and wait until somebody mends it; those of other pipelines go on.
    """
    token, images = retry_while_away(lambda: claims.claim(first, settings.VISEARCH_BATCH))
    renewals = claims.Renewals()

    def keep() -> None:
        if renewals.are_due():
            retry_while_away(partial(claims.renew, token))

    for pipelines, group in _by_pipelines(images).items():
        try:
            _process(token, group, retry_while_away(partial(runnable_models, pipelines)), keep)
        except (ModelUnavailable, NoServingModel) as error:
            _give_back(token, group, error)
    return len(images)


def _by_pipelines(images: Sequence[Image]) -> dict[tuple[str, ...], list[Image]]:
    groups: dict[tuple[str, ...], list[Image]] = defaultdict(list)
    for image in images:
        groups[tuple(sorted(set(image.collection.pipelines)))].append(image)
    return groups


def _process(token: str, images: Sequence[Image], models: Sequence[EmbeddingModel], keep: Callable[[], None]) -> None:
    """All at once; where that breaks, one by one, so that only the image at fault fails.

    ``keep`` renews the lease where it is time to, and is called again and again.
    """
    try:
        outcomes = _extract(token, images, models, keep)
    except AWAY:
        raise
    except Exception as error:
        if isinstance(error, ModelUnavailable) and not isinstance(error, ModelFailed):
            raise
        if len(images) > 1:
            for image in images:
                retry_while_away(partial(claims.renew, token))  # a network that hung may have used up the lease
                _process(token, [image], models, keep)
        else:
            _give_up(token, images[0], error, models)
        return
    _finish(token, outcomes, models)


def _give_up(token: str, image: Image, error: Exception, models: Sequence[EmbeddingModel]) -> None:
    if isinstance(error, ModelFailed):
        retry_while_away(partial(claims.renew, token))
        _try_on_noise(models)
        logger.error("image %s: %s", image.pk, error)
        what_to_do = "Take another image, or let another model run."
        _count_try(token, image, f"the model {error.name} failed for this image", "it runs for others", what_to_do)
    elif isinstance(error, ImageRefused):  # by an embedder: what does not decode is marked already
        claims.fail(token, image.pk, str(error))
    else:
        logger.error("image %s could not be processed", image.pk, exc_info=error)
        _fail_unexpectedly(token, image.pk, error)


def _try_on_noise(models: Sequence[EmbeddingModel]) -> None:
    """Raises ModelUnavailable where the networks fail for any image, so that none is to blame."""
    for model in models:
        warm_up(model.pipeline, embedders_of([model]))


def _count_try(token: str, image: Image, words: str, while_: str, what_to_do: str) -> None:
    """It went wrong for this image and not for others: it is tried again, and the last time it fails."""
    tries = image.attempts + 1  # `image` is from before this claim
    if tries >= settings.VISEARCH_MAX_ATTEMPTS:
        said = f"{words[0].upper()}{words[1:]} {tries} times, while {while_}."
        claims.fail(token, image.pk, f"{said} The worker's log says more. {what_to_do}")
        return
    claims.held_by(token).filter(pk=image.pk).update(attempts=F("attempts") + 1)  # as `release` takes one off
    claims.release(token, [image.pk], f"Waiting: {words}; it is tried again.")


def _give_back(token: str, images: Sequence[Image], error: ModelUnavailable | NoServingModel) -> None:
    logger.error("%d images are given back: %s", len(images), error)
    claims.release(token, [image.pk for image in images], f"Waiting: {_in_public(error)}")


def _extract(
    token: str, images: Sequence[Image], models: Sequence[EmbeddingModel], keep: Callable[[], None]
) -> list[Outcome]:
    """What was found in each image whose file decodes; the others are marked."""
    drawn = retry_while_away(partial(drawn_regions, images, models))
    pipelines = [model.pipeline for model in models]
    seen: list[tuple[Image, dict[int, bytes], Sequence[tuple[Region, ExtractedRegion]]]] = []

    def decoded() -> Iterator[tuple[DecodedImage, Sequence[str]]]:
        """One at a time, so that the pixels of one image are held at once; renditions are made of them on the way."""
        for image in images:
            keep()
            pixels = _decode(token, image)
            if pixels is not None:
                logger.info("extracting image %s", image.pk)
                seen.append((image, _render(pixels), _embed_drawn(pixels, drawn[image.pk], models)))
                yield pixels, pipelines

    extractions = extract_many(decoded(), embedders_of(models))
    keep()  # what was found is still to be stored
    return [Outcome(*one, extraction.regions) for one, extraction in zip(seen, extractions, strict=True)]


def _render(pixels: DecodedImage) -> dict[int, bytes]:
    from catalog.vision.renditions import render  # noqa: PLC0415 - OpenCV comes with the first image, not the site

    return render(pixels, storage.RENDITION_SIZES)


def _decode(token: str, image: Image) -> DecodedImage | None:
    key = storage.original_key(image.pk, image.format)
    try:
        with storage.open_original(key) as file:
            return helper.read_image(file, key, registry.limits())
    except ImageRefused as refusal:
        claims.fail(token, image.pk, str(refusal))
    except FileNotFoundError:
        _missing(token, image, key)
    except OSError as error:
        logger.error("original %s cannot be read: %s", key, error)
        _unread(token, image, error)
    return None


def _missing(token: str, image: Image, key: str) -> None:
    if originals.others_are_there(image):
        claims.fail(token, image.pk, "Its file is gone from the originals. Restore it, or delete this image.")
        return
    logger.error("original %s is not there, nor are others: is their storage mounted?", key)
    claims.release(token, [image.pk], "Waiting: the storage of originals is empty, or not there. Mount it again.")


def _unread(token: str, image: Image, error: OSError) -> None:
    words = error.strerror or type(error).__name__
    if isinstance(error, DecoderStarved):
        _count_try(token, image, f"reading it failed ({words})", "this machine may be busy", "Process it again.")
    elif not isinstance(error, DecoderUnavailable) and originals.others_can_be_read(image):
        what_to_do = "Mend or restore its file, then process it again."
        _count_try(token, image, f"reading its file failed ({words})", "others can be read", what_to_do)
    else:
        claims.release(token, [image.pk], f"Waiting: its file cannot be read ({words}).")


def _embed_drawn(
    decoded: DecodedImage, drawn: Sequence[Region], models: Sequence[EmbeddingModel]
) -> list[tuple[Region, ExtractedRegion]]:
    """Vectors for what somebody drew: no detector finds it."""
    pairs: list[tuple[Region, ExtractedRegion]] = []
    for model in models:
        regions = [region for region in drawn if region.pipeline == model.pipeline]
        if regions:
            detections = [detection_of(region) for region in regions]
            extracted = embed_regions(decoded, model.pipeline, detections, embedders_of([model]))
            pairs += zip(regions, extracted, strict=True)
    return pairs


def _finish(token: str, outcomes: Sequence[Outcome], models: Sequence[EmbeddingModel]) -> None:
    """Store them all at once; where that breaks, one by one, so that only the image at fault fails."""
    keys = [outcome.image.pk for outcome in outcomes]
    try:
        store(token, outcomes, models)
    except ModelSwitched as error:
        claims.release(token, keys, f"Waiting: {error}")
    except OSError as error:
        claims.release(
            token, keys, f"Waiting: renditions cannot be written ({error.strerror or type(error).__name__})."
        )
        logger.error("renditions of %d images cannot be written: %s", len(keys), error)
    except AWAY:
        raise
    except Exception as error:
        if len(outcomes) > 1:
            for outcome in outcomes:
                _finish(token, [outcome], models)
            return
        logger.exception("image %s could not be stored", keys[0])
        _fail_unexpectedly(token, keys[0], error)


def _in_public(error: ModelUnavailable | NoServingModel) -> str:
    """For everybody who may read an image's row; paths are for the log."""
    if isinstance(error, NoServingModel | ModelChanged):
        return str(error)
    return (
        f"the model {error.name} cannot be used. Run `manage.py models build`; `manage.py models` says what is wrong."
    )


def _fail_unexpectedly(token: str, image: UUID, error: Exception) -> None:
    """What it was in detail is in the log: an exception's words may hold paths or SQL."""
    kind = type(error).__name__
    claims.fail(token, image, f"Processing failed unexpectedly ({kind}). The worker's log says more. Process it again.")
