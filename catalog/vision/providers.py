"""Where networks run: the names of VISEARCH_ONNX_PROVIDERS, what each asks of onnxruntime, and which are installed.

Imports no onnxruntime: web processes and system checks ask what is installed, and read what runs, before any network is
loaded. catalog.vision.runtime tells by `note` what its networks really run on, which need not be what was asked for: a
CUDA without a driver starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

Options = dict[str, str]

SETTING = "VISEARCH_ONNX_PROVIDERS"


class BadProviders(ValueError):
    """The setting names what there is not, or what is not installed."""


@dataclass(frozen=True, slots=True)
class Provider:
    """``onnx_name`` is onnxruntime's; ``library`` the file (without its ending) that the package in ``comes_in`` has.

    ``options`` takes the threads of a run. All compute in 32-bit floats: whatever a provider would like better gives
    other vectors than those that are stored.
    """

    name: str
    onnx_name: str
    library: str
    comes_in: str
    options: Callable[[int], Options]


PROVIDERS = {
    provider.name.casefold(): provider
    for provider in (
        Provider("CPU", "CPUExecutionProvider", "", "onnxruntime", lambda threads: {}),
        # TF32 keeps 10 bits of a number (onnxruntime's documentation of the CUDA provider, use_tf32).
        Provider(
            "CUDA",
            "CUDAExecutionProvider",
            "libonnxruntime_providers_cuda",
            "onnxruntime-gpu",
            lambda threads: {"use_tf32": "0"},
        ),
        # Left alone, OpenVINO picks bfloat16 where the processor has it: 40 % slower here, and wrong by up to 0.15.
        # FP32 becomes its inference precision (onnxruntime, core/providers/openvino/backends/basic_backend.cc).
        Provider(
            "OpenVINO",
            "OpenVINOExecutionProvider",
            "libonnxruntime_providers_openvino",
            "onnxruntime-openvino",
            lambda threads: {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(threads)},
        ),
    )
}

_in_use: tuple[str, ...] = ()


def chosen(names: Sequence[str]) -> tuple[Provider, ...]:
    """The providers of the setting, best first, whatever their case. Raises BadProviders saying which there are."""
    known = ", ".join(provider.name for provider in PROVIDERS.values())
    unknown = [name for name in names if str(name).casefold() not in PROVIDERS]
    if not names:
        raise BadProviders(f"{SETTING} names nothing. It may name {known}, separated by commas.")
    if unknown:
        raise BadProviders(f"{SETTING} may name {known}, separated by commas, not {', '.join(map(str, unknown))}.")
    return tuple(dict.fromkeys(PROVIDERS[name.casefold()] for name in names))


def problem(names: Sequence[str]) -> str | None:
    """What is wrong with the setting on this machine, in a sentence that names what there is, or None."""
    try:
        missing = [provider for provider in chosen(names) if provider.name not in installed()]
    except BadProviders as error:
        return str(error)
    if not missing:
        return None
    packages = " and ".join(f"{provider.name} comes in {provider.comes_in}" for provider in missing)
    return (
        f"{SETTING} names {', '.join(provider.name for provider in missing)}, which is not installed; installed: "
        f"{', '.join(installed())}. {packages}, which takes the place of the package onnxruntime (docs/models.md)."
    )


def installed() -> tuple[str, ...]:
    """The providers whose libraries lie in the installed onnxruntime, found without importing it."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return ()
    folder = Path(spec.origin).parent / "capi"
    return tuple(
        provider.name
        for provider in PROVIDERS.values()
        if not provider.library or any(folder.glob(f"*{provider.library.removeprefix('lib')}.*"))
    )


def names_of(onnx_names: Sequence[str]) -> tuple[str, ...]:
    """Our names of onnxruntime's, which keep those that we have none for."""
    ours = {provider.onnx_name: provider.name for provider in PROVIDERS.values()}
    return tuple(ours.get(name, name) for name in onnx_names)


def note(names: tuple[str, ...]) -> None:
    """Tells what a network of this process really runs on, best first."""
    global _in_use  # noqa: PLW0603 - one answer for the process, written whenever a network is opened
    _in_use = names


def in_use() -> tuple[str, ...]:
    """What the networks of this process run on, best first; () where none was opened yet."""
    return _in_use
