"""The real networks, built once for a run into a folder of its own; import the fixtures into a conftest to use them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from catalog.vision import networks, registry


@pytest.fixture(scope="session")
def built_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every network that the settings use."""
    folder = tmp_path_factory.mktemp("models")
    for network in registry.networks_in_use():
        networks.build(network, folder)
    return folder


@pytest.fixture
def real_models(built_models: Path, settings: Settings) -> Path:
    """`built_models`, and the settings say so."""
    settings.VISEARCH_MODELS_DIR = built_models
    return built_models
