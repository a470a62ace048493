"""Tells a thought that a model writes into its answer, a leading `<think>` block, from the answer (WIRE 7.38).

Pure. Only a block that opens the answer is one: whoever writes about `<think>` later means the word.
"""

from typing import Final, Literal

_OPENS: Final = "<think>"
_CLOSES: Final = "</think>"


class ThoughtSplitter:
    """Takes the text of one answer piece by piece; gives (text, thought), the same however the text was cut.

    It holds back what may yet turn out to be a mark: at most white space and seven characters.
    """

    __slots__ = ("_held", "_place")

    def __init__(self) -> None:
        self._held = ""
        self._place: Literal["before", "inside", "behind", "over"] = "before"

    @property
    def over(self) -> bool:
        """Whether all that comes is answer: there is nothing left to ask this object."""
        return self._place == "over"

    def take(self, text: str) -> tuple[str, str]:
        """Take a piece in; return what is now known to be answer, and what to be thought."""
        self._held += text
        if self._place == "before":
            self._look_for_the_beginning()
        thought = self._thought() if self._place == "inside" else ""
        if self._place == "behind" and (answer := self._held.lstrip()):
            self._held, self._place = answer, "over"
        return (self.flush()[0] if self.over else ""), thought

    def flush(self) -> tuple[str, str]:
        """Return what is held, at the end of the answer or where something else shows that it has no such block."""
        held, place = self._held, self._place
        self._held, self._place = "", "over"
        if place == "behind":
            return "", ""
        return ("", held) if place == "inside" else (held, "")

    def _look_for_the_beginning(self) -> None:
        begins = self._held.lstrip()
        if begins.startswith(_OPENS):
            self._held, self._place = begins.removeprefix(_OPENS), "inside"
        elif not _OPENS.startswith(begins):
            self._place = "over"

    def _thought(self) -> str:
        thought, mark, answer = self._held.partition(_CLOSES)
        if mark:
            self._held, self._place = answer, "behind"
            return thought
        kept = next((n for n in range(len(_CLOSES) - 1, 0, -1) if thought.endswith(_CLOSES[:n])), 0)
        self._held = thought[len(thought) - kept :]
        return thought[: len(thought) - kept]
