"""What passed, with versions: `make clients` writes docs/clients.md from it.

Runs of a part (`ARGS="-k pipecat"`) add to what is known of the others, which is kept beside the environments. What is
known of another version is forgotten.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.clients.environments import FOLDER, ROOT

PAGE: Final = ROOT / "docs" / "clients.md"
KNOWN: Final = FOLDER / "passed.json"
_HEAD: Final = """# Software that we did not write

`make clients` installs each of these, exactly this version, into an environment of its own, and plays it against ours:
official clients against the emulator, unchanged but for the base URL; our worker against llama.cpp's own server with a
small model; the web examples under their frameworks. It is no part of `make test`: it installs half a gigabyte. What
cannot be installed is skipped, and said. It writes this page of what passed.

| software | version | against | what passed | last |
|---|---|---|---|---|
"""


@dataclass
class Line:
    """A row of the table."""

    version: str
    against: str
    passed: list[str] = field(default_factory=list)
    day: str = ""


@dataclass
class Record:
    """The rows, by package."""

    lines: dict[str, Line] = field(default_factory=dict)

    @classmethod
    def known(cls) -> "Record":
        """Return what earlier runs found."""
        text = KNOWN.read_text(encoding="utf-8") if KNOWN.exists() else "{}"
        return cls({package: Line(**line) for package, line in json.loads(text).items()})

    def note(self, package: str, version: str, against: str, *passed: str) -> None:
        """Something passed."""
        line = self.lines.get(package)
        if line is None or line.version != version:
            line = self.lines[package] = Line(version, against)
        line.passed += [each for each in passed if each not in line.passed]
        line.day = str(datetime.now(UTC).date())
        self.write()

    def write(self, page: Path = PAGE, known: Path = KNOWN) -> None:
        """Write the page, and what is known."""
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps({package: asdict(line) for package, line in self.lines.items()}), encoding="utf-8")
        rows = [
            f"| {package} | {line.version} | {line.against} | {_spelled(line.passed)} | {line.day} |"
            for package, line in sorted(self.lines.items())
        ]
        page.write_text(_HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def _spelled(passed: list[str]) -> str:
    return ", ".join(each.replace("_", " ") for each in passed)
