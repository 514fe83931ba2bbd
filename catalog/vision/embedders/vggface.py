"""Faces to vectors by the article's networks: VGG16 of VGG-Face, ResNet50 and SENet50 of VGGFace2.

They were trained on plain crops of MTCNN's boxes, so nothing is aligned. Vectors are those of keras-vggface 0.6 with
``include_top=False, pooling="avg"``, of any length: by l2 they compare as in the article, by cosine as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PILImage
from PIL.Image import Resampling

from catalog.vision import cards, preprocess
from catalog.vision.cards import CardMaker, Context, PinOptions
from catalog.vision.runtime import Session
from catalog.vision.types import Box, DecodedImage, Detection

SIDE = 224


def face_crop(image: DecodedImage, detection: Detection) -> PILImage:
    """The middle square of the extended box, 224 x 224 px (bilinear).

    The box grows about its middle: to 1.3 times its height, and to 1.3 times its width or 7/8 of its height, whichever
    is wider. What then lies beyond the frame is left out, so the crop has no filling; it is cut to its middle square
    rather than distorted, as the authors resize the shorter side to 224 px and take the middle (ox-vgg/vgg_face2,
    standard_evaluation: demo_proj.m for the box, pytorch_feature_extractor.py for the square).
    """
    box = preprocess.visible(_extended(detection.box.scaled(1 / image.scale)), *image.pixels.size)
    box = preprocess.central(box, min(box.width, box.height))
    return image.pixels.resize((SIDE, SIDE), Resampling.BILINEAR, box=(box.x, box.y, box.right, box.bottom))


def _extended(box: Box) -> Box:
    factor = 1 + cards.VGGFACE_EXTENSION
    height = box.height * factor
    width = max(box.width, box.height * cards.VGGFACE_NARROWEST) * factor
    return Box(box.x + (box.width - width) / 2, box.y + (box.height - height) / 2, width, height)


def preprocessed(crops: Sequence[PILImage], version: int) -> NDArray[np.float32]:
    """float32 (n, 3, 224, 224), BGR with the mean of keras_vggface.utils.preprocess_input's ``version`` subtracted."""
    pixels = np.stack([np.asarray(crop) for crop in crops]).astype(np.float32)[..., ::-1]
    centred = pixels - np.array(cards.VGGFACE_MEANS[version], np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


class _VggFace:
    CARD: ClassVar[CardMaker]
    VERSION: ClassVar[str] = "1"
    PREPROCESSING: ClassVar[int] = 2  # keras-vggface's version

    def __init__(self, context: Context, options: PinOptions) -> None:
        card = self.CARD.make(options, context.models_dir)
        self.dimension = card.dimension
        self._session = Session(card.networks[0], context)

    def crop(self, image: DecodedImage, detection: Detection) -> PILImage:
        """See `face_crop`."""
        return face_crop(image, detection)

    def embed(self, crops: Sequence[PILImage]) -> NDArray[np.float32]:
        if not crops:
            return np.empty((0, self.dimension), np.float32)
        return self._session.run(preprocessed(crops, self.PREPROCESSING))["vectors"]


class VggFaceVgg16(_VggFace):
    """512 numbers: the average of pool5."""

    CARD = cards.VGGFACE_VGG16
    PREPROCESSING = 1


class VggFace2ResNet50(_VggFace):
    """2048 numbers."""

    CARD = cards.VGGFACE2_RESNET50


class VggFace2SeNet50(_VggFace):
    """2048 numbers."""

    CARD = cards.VGGFACE2_SENET50
