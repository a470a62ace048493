"""The answer apart from the thought before it, and from the white space around it, while both are still coming.

Some models put their thought into the answer, between `<think>` and `</think>` at its very beginning (WIRE 4.2). It is
no part of the text. Nor is outer white space; so what `hear` has returned, joined, is the text at every moment.
"""

from typing import Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class Speech:
    """One answer, piece by piece."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking: bool | None = None  # None: not known yet
        self._spoken = False

    def hear(self, piece: str) -> tuple[str, str]:
        """Take a piece; return what is new of the text, and of the thought."""
        self._held += piece
        thought = ""
        if self._thinking is None:
            self._decide()
        if self._thinking:
            thought = self._think()
        return (self._say() if self._thinking is False else ""), thought

    def end(self) -> str:
        """Return the rest of the text: what looked like the beginning of a thought, and was none."""
        said = self._held.rstrip() if self._thinking is None else ""
        self._held = ""
        return said.lstrip()

    def _decide(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._thinking, self._held = True, begun[len(_OPEN) :]
        elif not _OPEN.startswith(begun):
            self._thinking = False

    def _think(self) -> str:
        thought, close, rest = self._held.partition(_CLOSE)
        if close:
            self._thinking, self._held = False, rest
            return thought
        kept = next((n for n in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:n])), 0)
        self._held = thought[len(thought) - kept :]
        return thought[: len(thought) - kept]

    def _say(self) -> str:
        text = self._held if self._spoken else self._held.lstrip()
        said = text.rstrip()
        self._held = text[len(said) :]
        self._spoken = self._spoken or bool(said)
        return said


def heard(content: str) -> tuple[str, str]:
    """Return the text and the thought of a whole answer."""
    speech = Speech()
    text, thought = speech.hear(content)
    return text + speech.end(), thought.strip()
