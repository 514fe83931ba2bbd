"""The rules that must never break are Postgres's own: no code of ours stands between a bad row and its refusal."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from catalog.models import Collection, Embedding, EmbeddingModel, Image, IntakeJob, IntakeLine, Person, Region
from tests.cast import make_face, make_image

pytestmark = pytest.mark.django_db
SHA = "ab" * 32


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop")


def make_model(**facts: Any) -> EmbeddingModel:
    defaults = {"pipeline": "face", "embedder": "tiny", "fingerprint": "f" * 64, "dimension": 2}
    return EmbeddingModel.objects.create(**{**defaults, **facts})


def embed(region: Region, model: EmbeddingModel, **facts: Any) -> Embedding:
    return Embedding.objects.create(
        **{"region": region, "model": model, "dimension": 2, "vector": b"8 bytes!", **facts}
    )


class Refused:
    """The block breaks the rule of this name, and Postgres says so."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self._raises = pytest.raises(IntegrityError, match=rule)
        self._atomic = transaction.atomic()

    def __enter__(self) -> None:
        self._raises.__enter__()
        self._atomic.__enter__()

    def __exit__(self, *error: Any) -> bool:
        self._atomic.__exit__(*error)
        return bool(self._raises.__exit__(*error))


def test_one_image_per_sha256_and_collection(shop: Collection) -> None:
    make_image(shop, sha256=SHA)
    with Refused("one_image_per_sha256_and_collection"):
        make_image(shop, sha256=SHA)
    make_image(Collection.objects.create(name="another"), sha256=SHA)


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("sha256_is_hex", {"sha256": "AB" * 32}),
        ("sha256_is_hex", {"sha256": "ab"}),
        ("image_has_a_size", {"width": 0}),
        ("image_has_a_size", {"height": 0}),
        ("image_has_a_size", {"byte_size": 0}),
        ("a_failed_image_has_a_reason", {"status": "failed"}),
        ("a_claim_has_a_lease", {"status": "processing", "claimed_by": "somebody"}),
    ],
)
def test_what_an_image_must_be(shop: Collection, rule: str, facts: dict[str, Any]) -> None:
    with Refused(rule):
        make_image(shop, **facts)


def test_a_failed_or_claimed_image_that_says_enough_is_taken(shop: Collection) -> None:
    make_image(shop, status="failed", reason="Cut off.")
    make_image(shop, status="processing", claimed_by="somebody", lease_until=timezone.now())


@pytest.mark.parametrize("facts", [{"width": 0}, {"height": -1}, {"x": -1}, {"y": -0.5}])
def test_a_region_has_an_area_inside_the_frame(shop: Collection, facts: dict[str, Any]) -> None:
    with Refused("region_has_area"):
        make_face(make_image(shop), **facts)


def test_one_embedding_per_region_and_model(shop: Collection) -> None:
    face, model = make_face(make_image(shop)), make_model()
    embed(face, model)
    with Refused("one_embedding_per_region_and_model"):
        embed(face, model)
    embed(face, make_model(fingerprint="e" * 64))


@pytest.mark.parametrize("vector", [b"", b"7 bytes", b"a whole 12 b"])
def test_a_vector_has_its_dimension(shop: Collection, vector: bytes) -> None:
    with Refused("vector_has_its_dimension"):
        embed(make_face(make_image(shop)), make_model(), vector=vector)


def test_an_embedding_has_its_models_dimension(shop: Collection) -> None:
    with Refused("embedding_dimension_is_its_models"):
        embed(make_face(make_image(shop)), make_model(), dimension=3, vector=b"x" * 12)


def test_a_models_dimension_cannot_change_under_its_embeddings(shop: Collection) -> None:
    model = make_model()
    embed(make_face(make_image(shop)), model)
    with Refused("embedding_dimension_is_its_models"):
        EmbeddingModel.objects.update(dimension=3)


def test_no_embedding_without_a_model(shop: Collection) -> None:
    face = make_face(make_image(shop))
    with Refused("model_id"):
        Embedding.objects.create(region=face, dimension=2, vector=b"8 bytes!")
    with Refused("embedding_dimension_is_its_models"):
        Embedding.objects.create(region=face, model_id=uuid4(), dimension=2, vector=b"8 bytes!")


def test_a_model_with_embeddings_stays(shop: Collection) -> None:
    model = make_model()
    embed(make_face(make_image(shop)), model)
    with pytest.raises(ProtectedError):
        model.delete()
    with Refused("catalog_embedding"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM catalog_embeddingmodel")
    assert Embedding.objects.count() == 1


def test_one_model_serves_each_pipeline() -> None:
    make_model(state="serving")
    make_model(state="serving", pipeline="image")
    make_model(state="retired", fingerprint="e" * 64)
    with Refused("one_serving_per_pipeline"):
        make_model(state="serving", fingerprint="d" * 64)


def test_one_row_per_fingerprint() -> None:
    make_model()
    with Refused("one_row_per_fingerprint"):
        make_model()


@pytest.mark.parametrize(("same", "near"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, None), (None, 0.5)], ids=str)
def test_near_is_beyond_same(same: float | None, near: float | None) -> None:
    with Refused("near_is_beyond_same"):
        make_model(same_distance=same, near_distance=near)


def test_a_model_that_nobody_measured_and_one_that_was() -> None:
    make_model()
    make_model(fingerprint="e" * 64, same_distance=0, near_distance=0.1)


def test_a_model_has_a_dimension() -> None:
    with Refused("model_has_a_dimension"):
        make_model(dimension=0)


@pytest.mark.parametrize("verdict", ["refused", "failed"])
def test_a_refusal_has_a_reason(shop: Collection, verdict: str) -> None:
    job = IntakeJob.objects.create(collection=shop, source="api")
    with Refused("a_refusal_has_a_reason"):
        IntakeLine.objects.create(job=job, source="a.png", verdict=verdict)
    IntakeLine.objects.create(job=job, source="a.png", verdict=verdict, reason="Cut off.")


def test_names_are_given_once(shop: Collection) -> None:
    with Refused("catalog_collection_name"):
        Collection.objects.create(name="shop")
    Person.objects.create(name="Ada")
    with Refused("catalog_person_name"):
        Person.objects.create(name="Ada")


def test_a_person_who_goes_leaves_the_face(shop: Collection) -> None:
    ada = Person.objects.create(name="Ada")
    face = make_face(make_image(shop), ada)
    ada.delete()
    face.refresh_from_db()
    assert face.person is None


def test_keys_grow_with_time_and_stand_for_collections_in_an_index(shop: Collection) -> None:
    images = [make_image(shop) for _ in range(3)]
    assert [image.pk for image in images] == sorted(image.pk for image in images)
    assert {image.pk.version for image in images} == {7}
    other = Collection.objects.create(name="another")
    assert 0 <= shop.index_key < 2**63
    assert shop.index_key != other.index_key
    assert Image.objects.first() == images[-1]
