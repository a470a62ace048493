"""What a command's exit code says. docs/commands.md shows this table; a test holds the two together."""

from enum import IntEnum
from typing import Final

from workers.errors import FireworksWorkersError


class Exit(IntEnum):
    """The codes. Programs may rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    REFUSED = 4


MEANINGS: Final[dict[Exit, str]] = {
    Exit.DONE: "done, or shown",
    Exit.FAILED: "the run of the command failed, or the service cannot be reached, or a setting is wrong",
    Exit.USAGE: "the command line is wrong: an option, a run id, the data of a signal",
    Exit.UNKNOWN: "neither Redis nor SQL knows the run",
    Exit.REFUSED: "nothing was changed: the run is over, at work, or cannot do this",
}


class Stop(FireworksWorkersError):
    """Ends the command with a code and one line that says what to do."""

    def __init__(self, code: Exit, text: str) -> None:
        self.code = code
        super().__init__(text)
