"""What networks run on: the setting, what is installed, what really starts."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from django.core import checks
from django.core.management import call_command
from pytest_django.fixtures import Settings

from catalog.vision import networks, providers, runtime
from catalog.vision.cards import Context
from catalog.vision.errors import ModelUnavailable
from catalog.vision.runtime import Session


def complaints() -> list[str]:
    return [message.msg for message in checks.run_checks() if message.id == "catalog.E002"]


@pytest.fixture
def everything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime with the libraries of all providers, to whoever looks for files."""
    (tmp_path / "capi").mkdir()
    for provider in providers.PROVIDERS.values():
        (tmp_path / "capi" / f"{provider.library}.so").touch()
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(providers, "find_spec", lambda name: spec)


def test_cpu_is_installed_and_what_networks_run_on(settings: Settings) -> None:
    assert "CPU" in providers.installed()
    available = [providers.PROVIDERS[name.casefold()].onnx_name for name in providers.installed()]
    assert set(available) <= set(onnxruntime.get_available_providers())
    settings.VISEARCH_ONNX_PROVIDERS = ["cpu"]
    assert complaints() == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["TPU"], "may name CPU, CUDA, OpenVINO, separated by commas, not TPU"),
        (["CPU", "CUDAExecutionProvider"], "not CUDAExecutionProvider"),
        ([], "names nothing"),
    ],
)
def test_an_unknown_provider_is_refused_with_those_there_are(settings: Settings, names: list[str], says: str) -> None:
    settings.VISEARCH_ONNX_PROVIDERS = names
    (complaint,) = complaints()
    assert complaint.startswith("VISEARCH_ONNX_PROVIDERS") and says in complaint


def test_a_provider_that_is_not_installed_is_refused_with_where_it_comes_from(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "installed", lambda: ("CPU",))
    settings.VISEARCH_ONNX_PROVIDERS = ["CUDA", "CPU"]
    (complaint,) = complaints()
    assert "names CUDA, which is not installed; installed: CPU. CUDA comes in onnxruntime-gpu" in complaint


def test_a_network_does_not_run_on_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "installed", lambda: ("CPU",))
    networks.build(networks.MTCNN_PNET, tmp_path)
    session = Session(networks.MTCNN_PNET, Context(tmp_path, 1, ("OpenVINO",)))
    with pytest.raises(ModelUnavailable, match=r"OpenVINO, which is not installed; installed: CPU"):
        session.run(np.zeros((1, 3, 12, 12), np.float32))


class Starting:
    """In place of onnxruntime's session: it notes what it is asked for and starts on CPU only, as without a driver."""

    asked: list[tuple[str, dict[str, str]]] = []

    def __init__(self, data: bytes, options: Any, providers: list[tuple[str, dict[str, str]]]) -> None:
        Starting.asked = providers

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        return []


@pytest.mark.usefixtures("everything_is_installed")
def test_what_does_not_start_is_not_passed_over_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Starting)
    monkeypatch.setattr(providers, "_in_use", ())
    with pytest.raises(
        ModelUnavailable, match=r"CUDA does not start on this machine .* let VISEARCH_ONNX_PROVIDERS name"
    ):
        runtime.try_out(Context(Path(), 1, ("CUDA",)))
    assert providers.in_use() == ()
    with caplog.at_level(logging.WARNING):
        assert runtime.try_out(Context(Path(), 1, ("CUDA", "CPU"))) == ("CPU",)
    assert "CUDA does not start on this machine, CPU is used" in caplog.text


@pytest.mark.usefixtures("everything_is_installed")
def test_every_provider_is_asked_for_32_bit_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Starting)
    runtime.try_out(Context(Path(), 3, ("OpenVINO", "CUDA", "CPU")))
    asked = dict(Starting.asked)
    assert list(asked) == ["OpenVINOExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert asked["OpenVINOExecutionProvider"]["precision"] == "FP32"
    assert asked["OpenVINOExecutionProvider"]["num_of_threads"] == "3"
    assert asked["CUDAExecutionProvider"]["use_tf32"] == "0"


@pytest.mark.django_db
def test_the_command_says_what_networks_run_on(settings: Settings, tmp_path: Path) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path
    output = io.StringIO()
    call_command("models", stdout=output)
    assert "Networks run on CPU  (VISEARCH_ONNX_PROVIDERS: CPU)" in output.getvalue()
