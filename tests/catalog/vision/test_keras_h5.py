"""Keras' weights files are read as Keras reads them, and anything else is refused in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from catalog.vision.readers import vggface
from catalog.vision.readers.errors import UnreadableWeights
from catalog.vision.readers.keras_h5 import opened
from tests.keras_files import SMALL, keras_file, random_file, random_weights


def changed(change: Callable[[h5py.File], Any]) -> bytes:
    """A small file after ``change``."""
    buffer = io.BytesIO(random_file(SMALL))
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


@pytest.mark.parametrize("whole_model", [False, True])
def test_layers_come_in_the_files_order_with_their_own_weights(whole_model: bool) -> None:
    weights = random_weights(SMALL)
    with opened(keras_file(weights, whole_model=whole_model)) as layers:
        assert [layer.name for layer in layers] == list(SMALL)  # not input_1 and pool1, which have none
        assert {layer.name: layer.shapes for layer in layers} == SMALL
        read = {layer.name: layer.read() for layer in layers}
    for name, arrays in weights.items():
        assert [np.array_equal(ours, theirs) for ours, theirs in zip(read[name], arrays, strict=True)] == [True] * len(
            arrays
        )


def test_numbers_of_another_precision_become_float32() -> None:
    weights = {"conv1_1": [array.astype(np.float64) for array in random_weights(SMALL)["conv1_1"]]}
    with opened(keras_file(weights)) as layers:
        assert [array.dtype for array in layers[0].read()] == [np.float32, np.float32]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "Not an HDF5 file"),
        (b"<!DOCTYPE html><title>Not found</title>", "Not an HDF5 file"),
        (random_file(SMALL)[:7], "Not an HDF5 file"),
        (random_file(SMALL)[:100], "truncated or damaged"),
        (random_file(SMALL)[:-1], "truncated or damaged"),
        (changed(lambda file: file.attrs.pop("layer_names")), "without Keras' list of layers"),
        (changed(lambda file: file["conv1_1"].attrs.pop("weight_names")), "truncated or damaged"),
        (changed(lambda file: file.pop("conv1_1")), "truncated or damaged"),
        (changed(lambda file: file["conv1_1"]["conv1_1"].pop("bias:0")), "truncated or damaged"),
        (changed(lambda file: file["conv1_1"].attrs.create("weight_names", np.array([b"conv1_1"]))), "that are none"),
        (
            changed(lambda file: file["conv1_1"].attrs.create("weight_names", np.array([b"conv1_1/bias:0/x"]))),
            "truncated or damaged",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_whole_weights_file_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableWeights, match=says):
        vggface.read(SMALL, data)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((64,), np.nan, np.float32), "conv1_1 are not all finite"),
        (np.full((64,), 1e300), "conv1_1 are not all finite"),
        (np.zeros((64,), np.int32), "conv1_1 are int32, not floats"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_weights_that_are_no_finite_floats_are_refused(array: Any, says: str) -> None:
    weights = random_weights(SMALL)
    weights["conv1_1"][1] = array
    with pytest.raises(UnreadableWeights, match=says):
        vggface.read(SMALL, keras_file(weights))


BIAS = "conv1_1/bias:0"


def in_external_storage(file: h5py.File, folder: Path) -> None:
    np.full(64, 7.5, np.float32).tofile(folder / "elsewhere")
    file["conv1_1"].create_dataset(BIAS, shape=(64,), dtype="f4", external=[(str(folder / "elsewhere"), 0, 256)])


def another_file(folder: Path) -> str:
    with h5py.File(folder / "other.h5", "w") as other:
        other["bias"] = np.full(64, 3.25, np.float32)
    return str(folder / "other.h5")


def by_an_external_link(file: h5py.File, folder: Path) -> None:
    file["conv1_1"][BIAS] = h5py.ExternalLink(another_file(folder), "/bias")


def in_a_virtual_dataset(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(64,), dtype="f4")
    layout[:] = h5py.VirtualSource(another_file(folder), "bias", shape=(64,))
    file["conv1_1"].create_virtual_dataset(BIAS, layout)


def by_a_soft_link(file: h5py.File, folder: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(another_file(folder), "/")
    file["conv1_1"][BIAS] = h5py.SoftLink("/elsewhere/bias")


@pytest.mark.parametrize("elsewhere", [in_external_storage, by_an_external_link, in_a_virtual_dataset, by_a_soft_link])
def test_numbers_of_another_file_are_refused(tmp_path: Path, elsewhere: Callable[[h5py.File, Path], None]) -> None:
    """The pinned sha256 is that of this file alone."""

    def change(file: h5py.File) -> None:
        del file["conv1_1"][BIAS]
        elsewhere(file, tmp_path)

    with pytest.raises(UnreadableWeights, match=r"lie in another file|is a link to somewhere else"):
        vggface.read(SMALL, changed(change))


# --- Which network ----------------------------------------------------------------------------------------------------


def test_the_layers_are_those_of_keras_vggface() -> None:
    """Parameters as model.summary() of keras-vggface 0.6 counts them with include_top=False."""
    counts = {
        len(layers): sum(int(np.prod(shape)) for shapes in layers.values() for shape in shapes)
        for layers in (vggface.vgg16_layers(), vggface.resnet50_layers(), vggface.senet50_layers())
    }
    assert counts == {13: 14_714_688, 106: 23_561_152, 138: 26_092_144}


def test_a_file_with_more_layers_is_taken_by_its_names() -> None:
    """keras-vggface publishes files with the classifier too."""
    weights: dict[str, list[Any]] = {**random_weights(SMALL), "classifier": [np.zeros((8, 3)), np.zeros(3)]}
    backwards = dict(reversed(weights.items()))
    read = vggface.read(SMALL, keras_file(backwards))
    assert list(read) == list(SMALL)
    assert np.array_equal(read["conv1_1"][0], weights["conv1_1"][0])


def test_a_file_of_other_names_is_taken_by_its_order() -> None:
    """As keras-vggface itself loads ResNet50 and SENet50."""
    weights = random_weights(SMALL)
    renamed = {f"layer_{number}": arrays for number, arrays in enumerate(weights.values())}
    read = vggface.read(SMALL, keras_file(renamed))
    assert np.array_equal(read["conv1/7x7_s2/bn"][3], weights["conv1/7x7_s2/bn"][3])


def other_shape() -> bytes:
    weights = random_weights(SMALL)
    weights["conv1_1"][0] = np.zeros((5, 5, 3, 64), np.float32)
    return keras_file(weights)


def other_order() -> bytes:
    first, second, third = random_weights(SMALL).values()
    return keras_file({"layer_0": second, "layer_1": first, "layer_2": third})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (random_file({"dense_1": ((8, 8), (8,))}), "another network: they have no layer conv1_1"),
        (random_file({"conv1_1": SMALL["conv1_1"]}), "another network: they have no layer conv1/7x7_s2"),
        (
            other_shape(),
            "another network: the layer conv1_1 has 5 x 5 x 3 x 64 and 64, not 3 x 3 x 3 x 64 and 64",
        ),
        (other_order(), "another network: the layer layer_0 has 7 x 7 x 3 x 64, not"),
    ],
)
def test_another_network_is_refused_naming_what_differs(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableWeights, match=says):
        vggface.read(SMALL, data)


def test_one_of_the_three_is_no_other_of_them() -> None:
    stem = keras_file({"conv1/7x7_s2": [np.zeros((7, 7, 3, 64), np.float32)]})
    with pytest.raises(UnreadableWeights, match="no layer conv1_1"):
        vggface.check_vgg16(stem)
    with pytest.raises(UnreadableWeights, match="no layer conv1/7x7_s2/bn"):
        vggface.check_senet50(stem)
