"""`make setup` and what it must leave alone."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_environment_that_is_somebody_else_s_is_not_emptied(tmp_path: Path) -> None:
    """`.venv` may be a link; `venv --clear` follows it."""
    place, other = tmp_path / "here", tmp_path / "other"
    (place / "scripts").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", "scripts/setup.py"):
        shutil.copy(ROOT / name, place / name)
    other.mkdir()
    (other / "precious").touch()
    (place / ".venv").symlink_to(other)
    made = subprocess.run([sys.executable, place / "scripts" / "setup.py"], capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "remove the link" in made.stderr
    assert [path.name for path in other.iterdir()] == ["precious"]
