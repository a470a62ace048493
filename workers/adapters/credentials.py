"""Provider keys by name. Names travel with requests; keys are looked up here, when a request is sent, and stay here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

OWN_FILE: Final = "FIREWORKS_API_KEY"
"""File with the key of requests that name no credential, where the variable of that name is not set."""

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MOST_CHARS: Final = 4096

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: tuple[int, int, int]
    key: str


class Credentials:
    """Call it with a credential's name, or None for the process's own key; raises KeyError for a name without a key.

    `folder` has a file for each name, as a secret of Kubernetes is mounted; a changed file counts from the next
    request on. What `named` has is not looked for there.
    """

    def __init__(self, own: SecretStr, named: Mapping[str, SecretStr], folder: Path | None) -> None:
        self._own = own
        self._named = named
        self._folder = folder
        self._read: dict[str, _Read] = {}

    def __call__(self, name: str | None) -> str:
        """See the class."""
        if name is None:
            own = self._own.get_secret_value()
            return own or self._in_folder(OWN_FILE) or ""
        if name in self._named:
            return self._named[name].get_secret_value()
        if (key := self._in_folder(name)) is not None:
            return key
        raise KeyError(name)

    def knows(self, name: str) -> bool:
        """Whether there is a key of this name now."""
        return name in self._named or self._in_folder(name) is not None

    def _in_folder(self, name: str) -> str | None:
        if self._folder is None or not _FILE_NAME.fullmatch(name):
            return None
        path = self._folder / name
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if (known := self._read.get(name)) is None or known.stamp != stamp:
                known = _Read(stamp, _content(path))
                self._read[name] = known
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            # Its kind only: a text that cannot be decoded is quoted in the error.
            _log.warning("credential.unreadable", credential=name, error=type(exc).__name__)
            return None
        return known.key or None


def _content(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_MOST_CHARS).strip()
