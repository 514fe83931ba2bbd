"""Real hashes of drawn images: altered copies are found, strangers and blank sheets are not; and hashes made later."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from PIL import Image as Pillow
from PIL import ImageDraw
from PIL.Image import Image as PILImage
from PIL.Image import Transpose

from catalog import storage
from catalog.duplicates.finding import near_duplicates
from catalog.models import Collection, Image
from catalog.vision.likeness import hashes
from tests.cast import make_image
from tests.drawn import image_file, scene
from tests.library import encoded, put_image

pytestmark = pytest.mark.django_db
SIZE = (400, 300)


def plain(kind: str) -> PILImage:
    image = Pillow.new("RGB", SIZE, "white")
    if kind == "gradient":
        image.paste(Pillow.linear_gradient("L").resize(SIZE).convert("RGB"))
    if kind == "stripes":
        for left in range(0, SIZE[0], 20):
            ImageDraw.Draw(image).rectangle((left, 0, left + 9, SIZE[1]), fill="black")
    return image


@pytest.fixture
def shop(db: None) -> Collection:
    return Collection.objects.create(name="shop")


def stored(shop: Collection, pixels: PILImage) -> Image:
    phash, mirrored = hashes(pixels) or (None, None)
    return make_image(shop, phash=phash, phash_mirrored=mirrored)


def found(shop: Collection, pixels: PILImage) -> dict[Image, bool]:
    """What an image of these pixels looks like, and whether in a mirror."""
    image = stored(shop, pixels)
    likely = near_duplicates(shop.pk, [image], 9).get(image.pk, [])
    return {Image.objects.get(pk=each.other): each.is_mirrored for each in likely}


def test_altered_copies_are_found_and_strangers_are_not(shop: Collection) -> None:
    there = [stored(shop, scene(seed)) for seed in range(30)]
    for seed in (3, 7):
        copy = scene(seed)
        compressed = Pillow.open(io.BytesIO(encoded(copy, "JPEG", quality=60)))
        for altered in (copy.resize((200, 150)), compressed, copy.crop((4, 3, 396, 297))):
            assert there[seed] in found(shop, altered)
        assert found(shop, copy.transpose(Transpose.FLIP_LEFT_RIGHT)).get(there[seed]) is True
    assert found(shop, scene(99)) == {}


@pytest.mark.parametrize("kind", ["white", "gradient", "stripes"])
def test_plain_images_look_like_nothing(shop: Collection, kind: str) -> None:
    stored(shop, plain(kind))
    assert found(shop, plain(kind).resize((200, 150))) == {}


def hash_images(*words: str) -> str:
    out = io.StringIO()
    call_command("hash_images", *words, stdout=out, stderr=out)
    return out.getvalue()


def test_images_from_before_get_their_hashes(shop: Collection, media: Path) -> None:
    image = put_image(shop, encoded(scene(1)))
    flat, lost = put_image(shop, image_file()), put_image(shop, encoded(scene(2)))
    other = put_image(Collection.objects.create(name="other"), encoded(scene(3)))
    Image.objects.update(phash=None, phash_mirrored=None)
    storage.originals().delete(storage.original_key(lost.pk, lost.format))
    said = hash_images("--collection", "shop")
    assert said.endswith("1 images have a hash now, 2 have none.\n")
    assert str(flat.pk) in said
    assert str(lost.pk) in said
    image.refresh_from_db()
    assert (image.phash, image.phash_mirrored) == hashes(scene(1))
    assert list(Image.objects.filter(phash=None, collection=other.collection)) == [other]
    assert hash_images().endswith("1 images have a hash now, 2 have none.\n")


def test_a_collection_that_is_not_there() -> None:
    with pytest.raises(CommandError, match="There is no collection 'nowhere'"):
        hash_images("--collection", "nowhere")
