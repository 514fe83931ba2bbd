"""Weights files that Keras 1 and 2 write (HDF5), read with h5py alone.

Layout: keras 2.2, keras/engine/saving.py, ``save_weights_to_hdf5_group``. The root, or its group ``model_weights``
where a whole model was saved, lists its layers in the attribute ``layer_names``, in the model's order. Each layer is a
group whose attribute ``weight_names`` lists its datasets in the order in which that kind of layer keeps its weights.
Names may hold "/", so what belongs to which layer is asked of these attributes and never guessed from a path.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from catalog.vision.readers.errors import UnreadableWeights

Shape = tuple[int, ...]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that has weights. Its shapes are known without reading a number."""

    name: str
    shapes: tuple[Shape, ...]
    _datasets: tuple[Any, ...] = field(repr=False)

    def read(self) -> tuple[NDArray[np.float32], ...]:
        """Its weights as float32, in Keras' order. Raises UnreadableWeights where they are no finite numbers."""
        arrays = []
        for dataset in self._datasets:
            if dataset.dtype.kind != "f":
                raise UnreadableWeights(f"The weights of the layer {self.name} are {dataset.dtype}, not floats")
            array = np.asarray(dataset[()], np.float32)
            if not np.isfinite(array).all():
                raise UnreadableWeights(f"The weights of the layer {self.name} are not all finite")
            arrays.append(array)
        return tuple(arrays)


@contextmanager
def opened(data: bytes) -> Iterator[list[Layer]]:
    """The layers with weights, in the file's order; readable until the context ends.

    Raises UnreadableWeights where the bytes are no HDF5 file, not all of one, or not laid out as Keras does, also for
    what h5py finds damaged while the layers are read.
    """
    if not data.startswith(_SIGNATURE):
        raise UnreadableWeights("Not an HDF5 file (.h5)")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield _layers(_member(file, "model_weights") if "model_weights" in file else file)
    except UnreadableWeights:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UnreadableWeights(f"A truncated or damaged HDF5 file: {error}") from error


def _layers(group: Any) -> list[Layer]:
    if "layer_names" not in group.attrs:
        raise UnreadableWeights("An HDF5 file without Keras' list of layers (a weights file of Keras 1 or 2 has it)")
    found = []
    for name in _names(group.attrs["layer_names"]):
        layer = _member(group, name)
        datasets = tuple(_member(layer, weight) for weight in _names(layer.attrs["weight_names"]))
        if not all(isinstance(dataset, h5py.Dataset) for dataset in datasets):
            raise UnreadableWeights(f"The layer {name} lists weights that are none")
        if any(dataset.external or dataset.is_virtual for dataset in datasets):
            raise UnreadableWeights(f"The weights of the layer {name} lie in another file")
        if datasets:
            found.append(Layer(name, tuple(dataset.shape for dataset in datasets), datasets))
    return found


def _member(group: Any, path: str) -> Any:
    """What lies at ``path`` in this very file: a link may lead into others, which no sha256 vouches for."""
    for name in filter(None, path.split("/")):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise KeyError(f"there is no {path}")
        if not isinstance(link, h5py.HardLink):
            raise UnreadableWeights(f"{path} is a link to somewhere else")
        group = group[name]
    return group


def _names(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
