"""What the doctor says of regions, embeddings, people and networks."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django import Settings

from catalog import keeping, storage
from catalog.curation.people import merge_people, undo_merge
from catalog.doctor.checks import CHECKS
from catalog.embedding_models import make_serving, register_models
from catalog.models import Collection, Embedding, EmbeddingModel, Image, Person, Region
from catalog.vision import networks, registry
from tests.beside import another
from tests.doctor import asked, codes, mended, subjects
from tests.heads import taught_model
from tests.library import process_all, ready, squares

pytestmark = pytest.mark.django_db
RED = squares((20, 30, 40, "red"))


def face_of(image: Image) -> Region:
    return Region.objects.get(image=image, pipeline="face")


# --- What no search finds ---------------------------------------------------------------------------------------------


def test_a_region_without_an_embedding_gets_one(shop: Collection) -> None:
    image = ready(shop, RED)
    face = face_of(image)
    Embedding.objects.filter(region=face).delete()
    assert subjects(asked(CHECKS), "embedding-lacking") == [str(face.pk)]
    assert mended(CHECKS) == ["embedding-lacking"]
    process_all()
    assert Embedding.objects.filter(region=face).count() == 1
    assert asked(CHECKS) == []


def test_what_nobody_searches_needs_no_embedding(shop: Collection) -> None:
    """A dismissed face, an image that did not become ready, a model that does not serve."""
    image = ready(shop, RED)
    Embedding.objects.filter(region=face_of(image)).delete()
    Region.objects.filter(pk=face_of(image).pk).update(dismissed=True)
    taught_model()
    assert asked(CHECKS) == []
    Region.objects.update(dismissed=False)
    Image.objects.update(status="failed", reason="cut off")
    assert asked(CHECKS) == []


def test_an_image_that_a_pipeline_of_its_collection_never_saw(shop: Collection) -> None:
    shop.pipelines = ["face"]
    shop.save()
    image = ready(shop, RED)
    assert asked(CHECKS) == []
    shop.pipelines = ["face", "image"]
    shop.save()
    assert subjects(asked(CHECKS), "region-lacking") == [str(image.pk)]
    assert mended(CHECKS) == ["region-lacking"]
    process_all()
    assert asked(CHECKS) == []
    assert image.regions.filter(pipeline="image").count() == 1


# --- Embeddings -------------------------------------------------------------------------------------------------------


def vector(*numbers: float) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e-9])
def test_a_vector_that_no_index_can_hold(shop: Collection, bad: float) -> None:
    image = ready(shop, RED)
    row = Embedding.objects.get(region=face_of(image))
    Embedding.objects.filter(pk=row.pk).update(vector=vector(bad, *[0.0] * (row.dimension - 1)))
    assert asked(CHECKS) == []
    assert codes(asked(CHECKS, deep=True)) == ["vector-bad"]
    assert mended(CHECKS, deep=True) == ["vector-bad"]
    process_all()
    assert asked(CHECKS, deep=True) == []
    assert bytes(Embedding.objects.get(region=face_of(image)).vector) == bytes(row.vector)


def test_a_bad_vector_of_a_model_that_does_not_serve_costs_no_search(shop: Collection) -> None:
    image = ready(shop, RED)
    other = EmbeddingModel.objects.create(pipeline="face", embedder="old", fingerprint="a" * 64, dimension=2)
    Embedding.objects.create(region=face_of(image), model=other, dimension=2, vector=vector(np.nan, 1))
    assert mended(CHECKS, deep=True) == ["vector-bad"]
    image.refresh_from_db()
    assert image.status == "ready"
    assert not other.embeddings.exists()


def test_an_embedding_of_another_pipeline(shop: Collection) -> None:
    image = ready(shop, RED)
    face, whole = face_of(image), Region.objects.get(image=image, pipeline="image")
    model = Embedding.objects.get(region=whole).model
    stray = Embedding.objects.create(region=face, model=model, dimension=model.dimension, vector=vector(*range(1, 9)))
    assert subjects(asked(CHECKS), "embedding-misfit") == [str(stray.pk)]
    assert mended(CHECKS) == ["embedding-misfit"]
    assert not Embedding.objects.filter(pk=stray.pk).exists()
    assert Embedding.objects.filter(region__image=image).count() == 2


@pytest.fixture
def no_constraints(db: None) -> Iterator[None]:
    """As after a restore that left them out; the test's transaction brings them back."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE catalog_embedding DROP CONSTRAINT vector_has_its_dimension")
    yield


@pytest.mark.usefixtures("no_constraints")
def test_an_embedding_of_another_length(shop: Collection) -> None:
    image = ready(shop, RED)
    row = Embedding.objects.get(region=face_of(image))
    Embedding.objects.filter(pk=row.pk).update(vector=vector(1, 2, 3))
    assert subjects(asked(CHECKS, deep=True), "embedding-misfit") == [str(row.pk)]
    assert mended(CHECKS) == ["embedding-misfit"]
    process_all()
    assert asked(CHECKS, deep=True) == []


# --- People -----------------------------------------------------------------------------------------------------------


def test_a_face_of_somebody_who_was_merged_goes_where_the_others_went(shop: Collection) -> None:
    user = User.objects.create_superuser("root")
    first, second = ready(shop, RED), ready(shop, squares((40, 30, 40, "blue")))
    ann, anne, anna = (Person.objects.create(name=name) for name in ("Ann", "Anne", "Anna"))
    Region.objects.filter(pk=face_of(first).pk).update(person=ann)
    merge = merge_people(anne, ann, user)
    merge_people(anna, anne, user)
    Region.objects.filter(pk=face_of(second).pk).update(person=ann)
    assert subjects(asked(CHECKS), "person-merged-with-faces") == [str(face_of(second).pk)]
    assert mended(CHECKS) == ["person-merged-with-faces"]
    assert face_of(second).person == anna
    merge.refresh_from_db()
    assert merge.regions == [str(face_of(first).pk), str(face_of(second).pk)]


def test_undoing_the_merge_gives_such_a_face_back(shop: Collection) -> None:
    user = User.objects.create_superuser("root")
    image = ready(shop, RED)
    ann, anne = (Person.objects.create(name=name) for name in ("Ann", "Anne"))
    merge = merge_people(anne, ann, user)
    Region.objects.filter(pk=face_of(image).pk).update(person=ann)
    assert mended(CHECKS) == ["person-merged-with-faces"]
    undo_merge(merge, user)
    assert face_of(image).person == ann
    assert asked(CHECKS) == []


def test_people_who_are_merged_in_a_circle_are_left(shop: Collection) -> None:
    image = ready(shop, RED)
    ann, anne = (Person.objects.create(name=name) for name in ("Ann", "Anne"))
    Region.objects.filter(pk=face_of(image).pk).update(person=ann)
    Person.objects.filter(pk=ann.pk).update(merged_into=anne)
    Person.objects.filter(pk=anne.pk).update(merged_into=ann)
    for _ in range(2):
        (found,) = asked(CHECKS, fix=True)
        assert (found.finding.code, found.mended) == ("person-merged-with-faces", False)


# --- Networks ---------------------------------------------------------------------------------------------------------


def test_a_head_that_is_gone(shop: Collection) -> None:
    model = taught_model()
    make_serving(model)
    assert asked(CHECKS) == []
    (registry.models_dir() / "heads" / f"{model.embedder}.onnx").write_bytes(b"")
    (found,) = asked(CHECKS, fix=True)
    assert (found.finding.code, found.mended) == ("model-head", False)
    (registry.models_dir() / "heads" / f"{model.embedder}.json").unlink()
    assert "model-changed" in codes(asked(CHECKS))


def test_a_pipeline_that_nothing_serves(shop: Collection) -> None:
    EmbeddingModel.objects.filter(pipeline="face").delete()
    assert subjects(asked(CHECKS), "pipeline-unserved") == ["face"]


def test_a_way_back_that_lacks_what_cannot_be_computed(shop: Collection, settings: Settings) -> None:
    lost, _ = ready(shop, RED), ready(shop, squares((60, 30, 40, "red")))
    other = another(settings, "image")
    key = storage.original_key(lost.pk, lost.format)
    with storage.open_original(key) as file:
        content = file.read()
    storage.originals().delete(key)
    keeping.ask(other)
    assert "model-lacks-regions" not in codes(asked(CHECKS))  # workers have not tried it yet
    assert sum(keeping.batches(EmbeddingModel.objects.get(pk=other.pk), 16)) == 1
    assert subjects(asked(CHECKS), "model-lacks-regions") == [str(other)]
    storage.save_original(key, io.BytesIO(content))
    keeping.ask(other)
    assert sum(keeping.batches(EmbeddingModel.objects.get(pk=other.pk), 16)) == 1
    assert asked(CHECKS) == []


def test_an_altered_network_is_built_again(db: None, fakes: None, settings: Settings) -> None:
    digits = "catalog.vision.embedders.digit_cnn.DigitCnn"
    settings.VISEARCH_EMBEDDERS = {"digit-cnn": {"BACKEND": digits, "OPTIONS": {}}}
    settings.VISEARCH_PIPELINES = {"digit": {"DETECTOR": "frame", "EMBEDDERS": ["digit-cnn"]}}
    (network,) = registry.networks_in_use()
    networks.build(network, registry.models_dir())
    register_models()
    assert asked(CHECKS) == []
    path = network.path(registry.models_dir())
    whole = path.read_bytes()
    for spoil in (lambda: path.write_bytes(whole[:-1]), path.unlink):
        spoil()
        assert subjects(asked(CHECKS), "model-file") == ["digit-cnn"]
        assert mended(CHECKS) == ["model-file"]
        assert path.read_bytes() == whole
