"""Reads a Procfile: one `name: command` a line, split into words without a shell. It must not know who runs them.

A command is split first and its variables are put in after that, so a value with spaces or quotes stays one word and no
value can add an argument.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Ours, for what the supervisor itself has to say.
RESERVED = "supervisor"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<bad>))"
)
_SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1", "2>"})


class ProcfileError(ValueError):
    """A Procfile cannot be read; the text says in which line and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"Procfile line {line}: {why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a Procfile: the process's name and the words of its command, variables put in."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is written: its number in the file and its words, variables not put in."""

    number: int
    words: tuple[str, ...]

    def expanded(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """The words with `environ` put in. Raises ProcfileError for a variable that is not set and has no default."""
        return tuple(_expand(self.number, word, environ) for word in self.words)


def parse_procfile(text: str, environ: Mapping[str, str]) -> list[Command]:
    """The commands in the order of the file. `#` starts a comment line.

    `$NAME`, `${NAME}` and `${NAME:-default}` come from `environ` (the default also stands in for an empty value), `$$`
    is a dollar sign. Raises ProcfileError, also for a variable that is not set and has no default.
    """
    return [Command(name, line.expanded(environ)) for name, line in read_lines(text).items()]


def read_lines(text: str) -> dict[str, Line]:
    """The lines by name, in the order of the file, for whoever wants one: the others' variables need not be set."""
    lines: dict[str, Line] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, line = _line(number, stripped)
        if name in lines:
            raise ProcfileError(number, f"{name!r} is there twice")
        lines[name] = line
    return lines


def with_own_scripts(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the folder of our own Python first in PATH: `celery` is found though no one activated the venv."""
    own = str(Path(sys.executable).parent)
    rest = environ.get("PATH", os.defpath)
    return {**environ, "PATH": f"{own}{os.pathsep}{rest}"}


def _line(number: int, line: str) -> tuple[str, Line]:
    name, colon, rest = (part.strip() for part in line.partition(":"))
    if not colon:
        raise ProcfileError(number, f"expected 'name: command', found {line!r}")
    if not _NAME.fullmatch(name):
        raise ProcfileError(number, f"{name!r} is no name: letters, digits, '-' and '_'")
    if name == RESERVED:
        raise ProcfileError(number, f"the name {RESERVED!r} is taken by the supervisor itself")
    return name, Line(number, tuple(_words(number, name, rest)))


def _words(number: int, name: str, rest: str) -> list[str]:
    try:
        words = shlex.split(rest)
        as_written = shlex.split(rest, posix=False)
    except ValueError as error:
        raise ProcfileError(number, f"cannot split the command of {name!r} into words: {error}") from error
    if not words:
        raise ProcfileError(number, f"{name!r} has no command")
    # With its quotes still on, a quoted '|' is not in the set.
    if shell := next((word for word in as_written if word in _SHELL_WORDS), None):
        raise ProcfileError(number, f"{shell!r} needs a shell and there is none; quote it or write a script")
    return words


def _expand(number: int, word: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, default = match["bare"] or match["braced"], match["default"]
        if not name:
            raise ProcfileError(number, f"cannot read the variable in {word!r}; a plain dollar sign is '$$'")
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise ProcfileError(number, f"the variable {name} is not set; '${{{name}:-value}}' gives it a default")
        return found

    return _VARIABLE.sub(value, word)
