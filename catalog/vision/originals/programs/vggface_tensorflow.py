"""keras-vggface 0.6 on TensorFlow: VGG16, ResNet50 and SENet50 of VGGFace and VGGFace2, without their last layers.

Its last release (2019) was written for Keras 2.2. It imports neither on Keras 3 nor on tf-keras alone; with tf-keras
and the names that `_stand_ins` puts where it looks for them its networks and its preprocessing run unchanged. Weights
are loaded by Keras from a file at hand (`_fill`), where the package would download its own.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from catalog.vision.originals.messages import Arrays

SIDE = 224
PREPROCESSING = {"vgg16": 1, "resnet50": 2, "senet50": 2}  # keras-vggface's README: which version is whose


def load(arguments: Sequence[str]) -> Mapping[str, Callable[..., Arrays]]:
    """Tasks of one network. Arguments: its name, and then the .h5 file and its sha256; random weights without these."""
    architecture, *file = arguments
    vggface, utils = _package()
    if file:
        _check(*file)
    model = vggface.VGGFace(
        model=architecture, include_top=False, input_shape=(SIDE, SIDE, 3), pooling="avg", weights=None
    )
    if file:
        _fill(model, file[0])

    def embed(crops: NDArray[np.uint8]) -> Arrays:
        """RGB ``crops`` (n, 224, 224, 3) to ``vectors`` (n, dimension), preprocessed as the package's README says."""
        x = utils.preprocess_input(crops.astype(np.float32), version=PREPROCESSING[architecture])
        return {"vectors": model.predict(x, verbose=0)}

    def features(x: NDArray[np.float32]) -> Arrays:
        """``x`` (n, 224, 224, 3), preprocessed already, to ``vectors``."""
        return {"vectors": model.predict(x, verbose=0)}

    def preprocess(crops: NDArray[np.uint8]) -> Arrays:
        """RGB ``crops`` (n, 224, 224, 3) to ``x``, what the network is given for them."""
        x = utils.preprocess_input(crops.astype(np.float32), version=PREPROCESSING[architecture])
        return {"x": np.ascontiguousarray(x, np.float32)}

    def save(network: NDArray[Any], classifier: NDArray[Any], path: NDArray[Any], seed: NDArray[Any]) -> Arrays:
        """Random weights (`_randomise`) of any of the three networks, with or without its classifier, into ``path``."""
        saved = vggface.VGGFace(
            model=str(network), include_top=bool(classifier), input_shape=(SIDE, SIDE, 3), pooling="avg", weights=None
        )
        _randomise(saved, int(seed))
        saved.save_weights(str(path))
        return {}

    return {"embed": embed, "features": features, "preprocess": preprocess, "save": save}


def _check(path: str, sha256: str) -> None:
    if hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256:
        raise ValueError(f"the weights in {path} are not those that were checked (sha256)")


def _fill(model: Any, path: str) -> None:
    """By the layers' names where the file has all of them, as files with a classifier do, else all by their order.

    keras-vggface loads VGG16 by names and the others by order (models.py). Keras passes over a name that is missing
    and raises ValueError for another shape, and by order for another number of layers.
    """
    with h5py.File(path, "r") as file:
        group = file if "layer_names" in file.attrs else file["model_weights"]
        there = {name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs["layer_names"]}
    wanted = {layer.name for layer in model.layers if layer.weights}
    model.load_weights(path, by_name=wanted <= there)


def _randomise(model: Any, seed: int) -> None:
    """Kernels as Keras draws them, and statistics of batches that are not those of a new layer.

    With larger kernels SENet50 would be chaotic, as no trained network is: a millionth more in a pixel changed its
    vector by a twentieth.
    """
    random = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([_draw(random, variable) for variable in layer.weights])


def _draw(random: np.random.Generator, variable: Any) -> NDArray[np.float32]:
    kind, shape = variable.name.rpartition("/")[2].partition(":")[0], tuple(variable.shape)
    if kind == "kernel":  # glorot_uniform
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * sum(shape[-2:])))
        drawn = random.uniform(-limit, limit, shape)
    elif kind in ("gamma", "moving_variance"):
        drawn = random.uniform(0.5, 1.5, shape)
    else:
        drawn = random.normal(0, 0.1, shape)
    return drawn.astype(np.float32)


def _package() -> tuple[Any, Any]:
    """``keras_vggface.vggface`` and ``keras_vggface.utils``."""
    _stand_ins()
    return importlib.import_module("keras_vggface.vggface"), importlib.import_module("keras_vggface.utils")


def _stand_ins() -> None:
    """tf-keras under the names by which keras-vggface imports Keras 2.2, in this process only."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    keras = importlib.import_module("tf_keras")
    layer_utils = importlib.import_module("tf_keras.src.utils.layer_utils")
    keras.utils.layer_utils = layer_utils
    sys.modules["keras"] = keras
    for name in ("layers", "backend", "models", "utils"):
        sys.modules[f"keras.{name}"] = getattr(keras, name)
    _stand_in("keras.utils.layer_utils", **vars(layer_utils))
    _stand_in("keras.utils.data_utils", get_file=keras.utils.get_file)
    _stand_in("keras.engine")
    _stand_in("keras.engine.topology", get_source_inputs=keras.utils.get_source_inputs)


def _stand_in(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
