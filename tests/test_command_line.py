"""`manage.py` where nothing is running yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_without_a_database_a_command_says_how_to_get_one(tmp_path: Path) -> None:
    nobody = f"postgres://somebody@/visearch?host={tmp_path}"
    ended = manage("rebuild_index", DATABASE_URL=nobody)
    assert ended.returncode == 1
    assert "The database does not answer. Start it (`make up`" in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Traceback" in manage("rebuild_index", "--traceback", DATABASE_URL=nobody).stderr
