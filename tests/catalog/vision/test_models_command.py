"""manage.py models."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from catalog.models import EmbeddingModel
from catalog.vision import networks, registry
from tests.heads import taught_model

pytestmark = pytest.mark.django_db


def models(*arguments: str) -> str:
    output = io.StringIO()
    call_command("models", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def only_pnet(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the smallest network as the only one in use."""
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    monkeypatch.setattr(registry, "networks_in_use", lambda: (networks.MTCNN_PNET,))
    return tmp_path / "models"


def test_build_then_verify_then_list(only_pnet: Path) -> None:
    assert "[1/1] mtcnn-pnet: built" in models("build")
    assert "[1/1] mtcnn-pnet: was whole" in models("build")
    assert "[1/1] mtcnn-pnet: built" in models("build", "--force")
    assert models("verify") == "mtcnn-pnet: whole\n"
    listed = models()
    assert "dlib-resnet  (pipeline face, 128 numbers, CC0-1.0)" in listed
    assert registry.fingerprint("efficientnet-lite0") in listed
    assert "mtcnn  (detector)" in listed
    assert "The model mtcnn-rnet is not built" in listed


def test_build_registers_the_models_once(only_pnet: Path) -> None:
    assert models("build").count("New embedding model") == 3
    assert models("build").count("New embedding model") == 0
    rows = EmbeddingModel.objects.order_by("pipeline").values_list("pipeline", "embedder", "dimension")
    assert list(rows) == [
        ("digit", "digit-cnn", 64),
        ("face", "dlib-resnet", 128),
        ("image", "efficientnet-lite0", 1280),
    ]


def test_verify_fails_for_what_is_missing_or_altered(only_pnet: Path) -> None:
    with pytest.raises(CommandError, match=r"1 cannot be used\.\n.*pnet is not built .*`manage.py models build`"):
        models("verify")
    models("build")
    path = networks.MTCNN_PNET.path(only_pnet)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CommandError, match=r"was altered: run `manage.py models build`"):
        models("verify")
    models("build")
    assert models("verify") == "mtcnn-pnet: whole\n"


def test_a_folder_that_cannot_be_written_is_named(only_pnet: Path) -> None:
    only_pnet.write_text("a file where the folder should be")
    with pytest.raises(CommandError, match=f"cannot be written .*{only_pnet.name}"):
        models("build")


def test_verify_names_the_taught_head_and_the_original_that_cannot_be_used(
    shop: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = taught_model().embedder
    assert f"{taught}: whole" in models("verify")
    (registry.models_dir() / "heads" / f"{taught}.onnx").unlink()
    problems = registry.model_problems() | {"keras-vggface": "Install the packages of requirements/tensorflow.txt."}
    monkeypatch.setattr(registry, "model_problems", lambda: problems)
    output = io.StringIO()
    with pytest.raises(CommandError, match=r"(?s)2 cannot be used.*requirements/tensorflow.txt.*heads.* backup"):
        call_command("models", "verify", stdout=output)
    assert "keras-vggface: Install the packages" in output.getvalue()
    assert f"{taught}: The model" in output.getvalue()


@pytest.mark.models
def test_every_network_in_use_is_whole_after_a_build(real_models: Path) -> None:
    assert len(models("verify").splitlines()) == 6
    assert registry.model_problems() == {}
    assert registry.model_files_problem("mtcnn") is None
    os.truncate(networks.MTCNN_RNET.path(real_models), 10)
    try:
        assert "was altered" in (registry.model_files_problem("mtcnn") or "")
        assert list(registry.model_problems()) == ["mtcnn-rnet"]
    finally:
        networks.build(networks.MTCNN_RNET, real_models)
