"""Running a network in onnxruntime: opened on first use, in the process and from the very bytes that were verified."""

from __future__ import annotations

import os
import threading

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.vision import networks
from catalog.vision.cards import Context
from catalog.vision.cores import usable_cores
from catalog.vision.errors import ModelUnavailable
from catalog.vision.networks import Network

# Sessions of a parent process, kept for ever: their end would wait for threads that a fork does not copy.
_inherited: list[onnxruntime.InferenceSession] = []


class Session:
    """One network, safe to use from several threads. A session opened before a fork is opened anew in the child."""

    def __init__(self, network: Network, context: Context) -> None:
        self._network = network
        self._context = context
        self._lock = threading.Lock()
        self._opened: tuple[int, onnxruntime.InferenceSession] | None = None

    def run(self, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Output name to array, for the input ``x``.

        Raises ModelUnavailable where the built file is missing or altered, or where an output is not finite.
        """
        session = self._session()
        names = [output.name for output in session.get_outputs()]
        outputs: dict[str, NDArray[np.float32]] = dict(zip(names, session.run(names, {"x": x}), strict=True))
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise ModelUnavailable(
                self._network.name,
                f"The model {self._network.name} gave numbers that are not finite: {networks.REMEDY} --force.",
            )
        return outputs

    def _session(self) -> onnxruntime.InferenceSession:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    if opened is not None:
                        _inherited.append(opened[1])
                    opened = (os.getpid(), _open(self._network, self._context))
                    self._opened = opened
        return opened[1]


def _open(network: Network, context: Context) -> onnxruntime.InferenceSession:
    data = networks.read(network, context.models_dir)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = context.threads or usable_cores()
    # Idle threads that spin take the cores from OpenCV between two runs: 24 images a second become 15.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
