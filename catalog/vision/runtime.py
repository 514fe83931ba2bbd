"""Running a network in onnxruntime: opened on first use, in the process and from the very bytes that were verified."""

from __future__ import annotations

import logging
import os
import threading

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from catalog.vision import networks, providers
from catalog.vision.cards import Context
from catalog.vision.cores import usable_cores
from catalog.vision.errors import ModelFailed, ModelUnavailable, onnxruntime_words
from catalog.vision.networks import Network

logger = logging.getLogger(__name__)

# y = max(x, 0) of one number: what `try_out` runs. onnx 1.23.2 wrote it.
_SMALLEST = (
    b'\x08\x08\x12\x00:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)

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

        Raises ModelUnavailable where the built file is missing or altered or does not start, ModelFailed where
        onnxruntime cannot run it on ``x`` or where an output is not finite.
        """
        session = self._session()
        names = [output.name for output in session.get_outputs()]
        try:
            outputs: dict[str, NDArray[np.float32]] = dict(zip(names, session.run(names, {"x": x}), strict=True))
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise self._failed(f"cannot be run: {onnxruntime_words(error).rstrip('.')}") from error
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise self._failed("gave numbers that are not finite")
        return outputs

    def _failed(self, what: str) -> ModelFailed:
        name = self._network.name
        return ModelFailed(name, f"The model {name} {what}: {networks.REMEDY} --force.")

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


def try_out(context: Context) -> tuple[str, ...]:
    """What networks run on here, by the names of VISEARCH_ONNX_PROVIDERS, best first: it starts a network to see.

    Raises ModelUnavailable where none of those asked for works.
    """
    _start("a network of one number", _SMALLEST, context).run(None, {"x": np.zeros(1, np.float32)})
    return providers.in_use()


def _open(network: Network, context: Context) -> onnxruntime.InferenceSession:
    return _start(network.name, networks.read(network, context.models_dir), context)


def _start(name: str, data: bytes, context: Context) -> onnxruntime.InferenceSession:
    """A session on the providers asked for. Raises ModelUnavailable where one is unknown or none of them works, or
    where onnxruntime refuses ``data``.

    onnxruntime goes on with CPU alone, and says so on stderr only, where another provider cannot be started.
    """
    trouble = providers.problem(context.providers)
    if trouble:
        raise ModelUnavailable(name, trouble)
    asked = providers.chosen(context.providers)
    threads = context.threads or usable_cores()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin take the cores from OpenCV between two runs: 24 images a second become 15.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = [(provider.onnx_name, provider.options(threads)) for provider in asked]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=wanted)
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise ModelUnavailable(name, f"onnxruntime does not start {name}: {onnxruntime_words(error)}") from error
    works = providers.names_of(session.get_providers())
    if works[0] != asked[0].name:
        _without(name, asked[0].name, works, {provider.name for provider in asked})
    providers.note(works)
    return session


def _without(name: str, asked: str, works: tuple[str, ...], allowed: set[str]) -> None:
    """The provider that was asked for first is not there: a warning where the next one was asked for, too."""
    if works[0] not in allowed:
        raise ModelUnavailable(
            name,
            f"{asked} does not start on this machine (onnxruntime's words are on stderr); {', '.join(works)} does. "
            f"Mend it, or let {providers.SETTING} name {works[0]} as well.",
        )
    logger.warning("%s: %s does not start on this machine, %s is used", name, asked, works[0])
