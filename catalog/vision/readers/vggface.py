"""The weights of keras-vggface's three networks, found in its .h5 files: with and without their classifiers.

Layers: keras-vggface 0.6, keras_vggface/models.py. Its own loading takes VGG16's layers by their names and those of the
other two by their order, so a file is taken that has either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.readers.keras_h5 import Layer, Shape, opened

Layers = dict[str, tuple[Shape, ...]]  # name to the shapes of its weights
Weights = Mapping[str, tuple[NDArray[np.float32], ...]]

# Convolutions in each block of VGG16 and how many channels they give: Parkhi et al. 2015, table 3.
VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Stage, its blocks, and the channels inside one of them; four times as many come out.
RESNET_STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))
STEM_CHANNELS = 64
EXPANSION, SQUEEZE = 4, 16


def vgg16_layers() -> Layers:
    """Of VGG16 up to conv5_3: kernel (height, width, in, out) and bias."""
    layers: Layers = {}
    channels = 3
    for block, (convolutions, width) in enumerate(VGG16_BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            layers[f"conv{block}_{number}"] = ((3, 3, channels, width), (width,))
            channels = width
    return layers


def resnet50_layers() -> Layers:
    """Of ResNet50 up to the pooling, in the order in which Keras keeps them.

    A convolution has a kernel and no bias; its batch norm gamma, beta, moving mean and moving variance.
    """
    return dict(_residual_layers(squeeze=False))


def senet50_layers() -> Layers:
    """`resnet50_layers`, and in each block the two convolutions of squeeze and excitation, which have biases."""
    return dict(_residual_layers(squeeze=True))


def _residual_layers(*, squeeze: bool) -> Iterator[tuple[str, tuple[Shape, ...]]]:
    yield from _normed("conv1/7x7_s2", 7, 3, STEM_CHANNELS)
    channels = STEM_CHANNELS
    for stage, blocks, width in RESNET_STAGES:
        for block in range(1, blocks + 1):
            yield from _block(f"conv{stage}_{block}", channels, width, first=block == 1, squeeze=squeeze)
            channels = width * EXPANSION


def _block(
    name: str, channels: int, width: int, *, first: bool, squeeze: bool
) -> Iterator[tuple[str, tuple[Shape, ...]]]:
    """One block's layers. Keras sorts by the distance from the output, so the shortcut's come among the last."""
    out = width * EXPANSION
    yield from _normed(f"{name}_1x1_reduce", 1, channels, width)
    yield from _normed(f"{name}_3x3", 3, width, width)
    increase = list(_normed(f"{name}_1x1_increase", 1, width, out))
    shortcut = list(_normed(f"{name}_1x1_proj", 1, channels, out)) if first else []
    if not squeeze:
        yield from (increase[0], *shortcut[:1], increase[1], *shortcut[1:])
        return
    yield from increase
    yield f"{name}_1x1_down", ((1, 1, out, out // SQUEEZE), (out // SQUEEZE,))
    yield f"{name}_1x1_up", ((1, 1, out // SQUEEZE, out), (out,))
    yield from shortcut


def _normed(name: str, size: int, channels: int, filters: int) -> Iterator[tuple[str, tuple[Shape, ...]]]:
    yield name, ((size, size, channels, filters),)
    yield f"{name}/bn", ((filters,),) * 4


def read(expected: Layers, data: bytes) -> Weights:
    """The weights of the ``expected`` layers by name. Raises UnreadableWeights where the file is of another network."""
    with opened(data) as layers:
        return {name: layer.read() for name, layer in zip(expected, _matching(expected, layers), strict=True)}


def _matching(expected: Layers, layers: list[Layer]) -> list[Layer]:
    """The file's layer for each expected one: those of the same names, else all by their order."""
    named = {layer.name: layer for layer in layers}
    missing = [name for name in expected if name not in named]
    if not missing:
        found = [named[name] for name in expected]
    elif len(layers) == len(expected) and not set(named) & set(expected):
        found = layers
    else:
        raise UnreadableWeights(f"The weights of another network: they have no layer {missing[0]}")
    for name, layer in zip(expected, found, strict=True):
        if layer.shapes != expected[name]:
            raise UnreadableWeights(
                f"The weights of another network: the layer {layer.name} has {_said(layer.shapes)}, "
                f"not {_said(expected[name])}"
            )
    return found


def _said(shapes: tuple[Shape, ...]) -> str:
    return " and ".join(" x ".join(str(side) for side in shape) or "one number" for shape in shapes) or "nothing"


def check_vgg16(data: bytes) -> None:
    """Raises UnreadableWeights unless ``data`` is an .h5 file of keras-vggface's VGG16."""
    read(vgg16_layers(), data)


def check_resnet50(data: bytes) -> None:
    """Raises UnreadableWeights unless ``data`` is an .h5 file of keras-vggface's ResNet50."""
    read(resnet50_layers(), data)


def check_senet50(data: bytes) -> None:
    """Raises UnreadableWeights unless ``data`` is an .h5 file of keras-vggface's SENet50."""
    read(senet50_layers(), data)
