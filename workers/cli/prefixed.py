"""Prints the lines of several processes on one terminal, each behind its process's name.

It must not know who runs them.
"""

from typing import IO

from rich.console import Console
from rich.text import Text

# Readable on light and dark ground alike; red is left to errors, dim to the supervisor.
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
_OURS = "supervisor"


class PrefixedPrinter:
    """A sink `(name, line)`: `chat       | line`, coloured on a terminal and plain elsewhere.

    Not safe for two threads at once: the supervisor calls its sink under a lock. Output that nobody takes any more
    (`up | head`) silences the printer and nothing else.
    """

    def __init__(self, file: IO[str] | None = None, *, width: int = len(_OURS)) -> None:
        self._console = _Console(file=file, soft_wrap=True, markup=False, highlight=False, emoji=False)
        self._width = width
        self._styles: dict[str, str] = {_OURS: "dim"}

    def __call__(self, name: str, line: str) -> None:
        """Prints one line; the colours that the process itself gave it stay."""
        style = self._styles.setdefault(name, _COLOURS[(len(self._styles) - 1) % len(_COLOURS)])
        self._width = max(self._width, len(name))
        self._console.print(Text(f"{name:<{self._width}} | ", style=style) + Text.from_ansi(line))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich's own way is to end the process; the workers matter more than a reader who left.
        self.quiet = True
