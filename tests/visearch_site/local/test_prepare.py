"""What is prepared before the site serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from visearch_site.local import prepare


@pytest.mark.django_db
def test_models_that_cannot_be_built_do_not_keep_the_site_from_starting(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.VISEARCH_MODELS_DIR = tmp_path / "models"
    settings.VISEARCH_MODELS_DIR.write_text("a file where the folder should be")
    prepare.build_models()
    said = capsys.readouterr().out
    assert "cannot be written" in said and str(tmp_path) in said
    assert "everything else works" in said and "manage.py models build" in said
