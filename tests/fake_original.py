"""Stands in for a program of catalog.vision.originals: needs no TensorFlow, and misbehaves when asked to."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.vision.originals.messages import Arrays

NAME = "tests.fake_original"


def load(arguments: Sequence[str]) -> Mapping[str, Callable[..., Arrays]]:
    """Arguments: ``broken`` does not load and notes that in the file named next, ``slow`` takes for ever."""
    if "broken" in arguments:
        for note in arguments[1:]:
            with Path(note).open("a") as file:
                file.write("started\n")
        raise ImportError("no module of that name\nand a second line")
    if "slow" in arguments:
        time.sleep(600)
    tasks = {task.__name__: task for task in (echo, who, fail, die, hang, babble, detect, preprocess, features, embed)}
    weights = Path(arguments[1]).read_bytes() if len(arguments) > 2 else b""
    return tasks | {"features": {b"zeros": zeros, b"same": same}.get(weights, features)}


def echo(**arrays: NDArray[Any]) -> Arrays:
    return arrays


def who() -> Arrays:
    """This process, and what of the environment it was given."""
    cuda = np.array(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return {"pid": np.array(os.getpid()), "environment": np.array(list(os.environ)), "cuda": cuda}


def fail() -> Arrays:
    raise ValueError("the weights are of another network\nwith a second line")


def die(status: NDArray[Any]) -> Arrays:
    sys.stderr.write("out of patience\n")
    sys.stderr.flush()
    os._exit(int(status))


def hang() -> Arrays:
    time.sleep(600)
    return {}


def babble() -> Arrays:
    sys.stdout.write("1/1 [==============================] - 0s\n")
    sys.stdout.flush()
    os.write(1, b"and from a library in C\n")
    return {"done": np.array(True)}


def detect(image: NDArray[np.uint8], **_: NDArray[Any]) -> Arrays:
    """A large face with a low score, a small one, one beyond the frame; for an image with a red corner, nonsense."""
    if image[0, 0].tolist() == [255, 0, 0]:
        return {"boxes": np.zeros((2, 3)), "scores": np.ones(2), "landmarks": np.zeros((2, 10))}
    boxes = np.array([[5.5, 5.0, 15.0, 15.0], [-10.0, 20.0, 60.0, 90.0], [500.0, 10.0, 520.0, 30.0]])
    points = np.tile(np.arange(10.0), (3, 1))
    return {"boxes": boxes, "scores": np.array([1.0000001, 0.9, 0.99]), "landmarks": points}


def preprocess(crops: NDArray[np.uint8]) -> Arrays:
    return {"x": crops.astype(np.float32)[..., ::-1]}


def features(x: NDArray[np.float32]) -> Arrays:
    """The means of the three channels."""
    return {"vectors": x.mean(axis=(1, 2))}


def zeros(x: NDArray[np.float32]) -> Arrays:
    return {"vectors": np.zeros((len(x), 3), np.float32)}


def same(x: NDArray[np.float32]) -> Arrays:
    return {"vectors": np.ones((len(x), 3), np.float32)}


def embed(crops: NDArray[np.uint8]) -> Arrays:
    """The means of the three channels, over and over, in as many numbers as resnet50 has."""
    means = crops.astype(np.float32).mean(axis=(1, 2))
    return {"vectors": np.tile(means, (1, 683))[:, :2048]}
