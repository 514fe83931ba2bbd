"""In place of catalog.digits.keras_net: learns nothing, and refuses rows that it must not see."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.digits.measuring import vectors_of
from catalog.vision.builders.digit_cnn import DIMENSION, LAYERS, from_weights

FORBIDDEN = 9  # the label of every held-out row in these tests
Arrays = dict[str, NDArray[Any]]


def load(arguments: Sequence[str]) -> dict[str, Any]:
    random = np.random.default_rng(int(arguments[0]))

    def start(steps: NDArray[Any], batch: NDArray[Any]) -> Arrays:
        return {"steps": steps}

    def epoch(ink: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Arrays:
        assert len(ink) == len(labels)
        assert FORBIDDEN not in labels, "a held-out row came to the training"
        if "FAKE_NET_ENDS" in os.environ:
            os._exit(3)
        return {"loss": np.array(1.0)}

    def finish(probes: NDArray[np.uint8]) -> Arrays:
        found: Arrays = {}
        channels = 1
        for number, layer in enumerate(LAYERS):
            shape = (layer.filters, channels, layer.size, layer.size)
            found[f"kernel{number}"] = (random.normal(0, 0.1, shape)).astype(np.float32)
            found[f"bias{number}"] = np.full(layer.filters, 0.01, np.float32)
            channels = layer.filters
        vectors = vectors_of(from_weights({**found, "nothing": np.zeros(DIMENSION)}), probes)
        return {**found, "vectors": vectors + float(os.environ.get("FAKE_NET_IS_OFF_BY", "0"))}

    return {"start": start, "epoch": epoch, "finish": finish}
