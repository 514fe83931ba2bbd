"""mtcnn 1.0.0 on TensorFlow, as the article calls it: ``MTCNN().detect_faces(pixels)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from mtcnn import MTCNN
from mtcnn.stages import StageONet, StagePNet, StageRNet
from mtcnn.stages.base import StageBase
from numpy.typing import NDArray

from catalog.vision.originals.messages import Arrays

_STAGES = {"pnet": 0, "rnet": 1, "onet": 2}
_HEADS = {"pnet": 2, "rnet": 2, "onet": 3}  # layers beside each other at the end of each network


class StageFailed(Exception):
    """TensorFlow could not run one of the three networks on the image."""


class _Loud(StageBase):  # type: ignore[misc]  # mtcnn has no types
    """A stage whose errors are heard.

    mtcnn.py takes every InvalidArgumentError for "no faces found". Where there honestly are none, no stage raises one:
    an empty pyramid and empty candidates go through all three.
    """

    def __init__(self, stage: Any) -> None:
        super().__init__(stage.name, stage.id, stage.model)
        self._stage = stage
        self._has_run = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        try:
            found = self._stage(*arguments, **options)
        except tf.errors.InvalidArgumentError as error:
            raise StageFailed(f"{self.name} cannot be run on this image: {error.message}") from error
        self._has_run = True
        return found

    def has_run(self) -> bool:
        """Whether it has since this was last asked."""
        has_run, self._has_run = self._has_run, False
        return has_run


def load(arguments: Sequence[str]) -> Mapping[str, Callable[..., Arrays]]:
    """The tasks ``detect`` and ``layers``; no arguments."""
    stages = [_Loud(stage()) for stage in (StagePNet, StageRNet, StageONet)]
    detector = MTCNN(stages=stages)

    def detect(
        image: NDArray[np.uint8], min_face_px: NDArray[Any], factor: NDArray[Any], thresholds: NDArray[Any]
    ) -> Arrays:
        """``image`` (h, w, 3) to ``boxes`` (n, 4) left, top, right, bottom, ``scores`` (n,), ``landmarks`` (n, 10).

        Landmarks are five x and then five y. All in pixels of the image, float64 as the package has them before it
        rounds them to whole pixels for its answer in JSON.
        """
        found = detector.detect_faces(
            image,
            box_format="xyxy",
            output_type="numpy",
            min_face_size=int(min_face_px),
            scale_factor=float(factor),
            **dict(zip(("threshold_pnet", "threshold_rnet", "threshold_onet"), thresholds.tolist(), strict=True)),
        )
        if not stages[-1].has_run():
            raise StageFailed("mtcnn stopped before its last network, and calls that no faces")
        if not len(found):
            found = np.empty((0, 16))  # where it finds nothing early, it has no columns for landmarks
        return {"boxes": found[:, 1:5], "scores": found[:, 5], "landmarks": found[:, 6:16]}

    def layers(network: NDArray[Any], x: NDArray[np.uint8]) -> Arrays:
        """What each layer of ``pnet``, ``rnet`` or ``onet`` gives for RGB ``x`` (n, h, w, 3), named 00, 01, ...

        The package normalises ``x`` before it cuts; here it is done first too.
        """
        net = str(network)
        model = stages[_STAGES[net]].model
        trunk, heads = model.layers[: -_HEADS[net]], model.layers[-_HEADS[net] :]
        value: Any = (x.astype(np.float32) - 127.5) / 128
        outputs = []
        for layer in trunk:
            value = layer(value)
            outputs.append(value)
        outputs += [head(value) for head in heads]
        return {f"{number:02}": np.asarray(output, np.float32) for number, output in enumerate(outputs)}

    return {"detect": detect, "layers": layers}
