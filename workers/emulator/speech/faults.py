"""What can be made to go wrong with speech, by header or query (`x-emulator-fault: name[=arg],...`) or by a rule.

A status (`401`, `429`, `503` ..., with `retry_after=SECONDS`) refuses the upgrade. The others are in `GUIDE`; those
that end in `_after` strike once that many milliseconds of audio have come and been answered, 0 right after the upgrade.
`times=N` beside them: only the first N connections that ask for exactly this. Parses and describes; others act.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, TypeAlias, get_args

from workers.emulator import errors
from workers.emulator.errors import ErrorReply
from workers.emulator.faults import FaultSyntax

Blow: TypeAlias = Literal[
    "drop", "close", "stall", "deaf", "error", "malformed", "unknown", "id_jump", "rewrite_final", "shorter", "empty"
]  # fmt: skip

GUIDE: Mapping[str, str] = {
    "drop_after": "the connection ends without a close frame (1006)",
    "close_after": "a close frame, see code",
    "code": "the close code of close_after; 1011 unless given",
    "stall_after": "nothing more is sent, the connection stays open and audio is taken",
    "deaf_after": "nothing more is read or sent, pings go unanswered",
    "error_after": "an error message, then close 1011",
    "malformed_after": "one message that is half its JSON",
    "unknown_after": "one message of a kind that nobody knows",
    "id_jump_after": "the ids of segments leave a hole of 7",
    "rewrite_final_after": "the newest final word is told again with another text, as soon as there is one",
    "shorter_after": "the next update with a word that may still change comes again without that word",
    "empty_after": "the next update comes again with a newest segment that is empty",
    "refuse": "the connection ends before anything is answered",
    "no_words": "words stand nowhere, whatever the server's setting",
    "unordered": "the segments of a message come in reverse order",
    "duplicate": "every update is sent twice",
    "slow_echo": "echoes of checkpoints and traces come that many milliseconds late",
    "no_echo": "checkpoints and traces are never echoed",
    "no_close": "the connection stays open after the final checkpoint",
    "string_ids": "segment ids are strings, whatever the server's setting",
    "string_error": "errors are strings, whatever the server's setting",
    "all_segments": "every update lists all segments, whatever the server's setting",
    "times": "only the first N connections that ask for this",
}

_BLOWS: Mapping[str, Blow] = {f"{blow}_after": blow for blow in get_args(Blow)}
_FLAGS = frozenset({
    "unordered", "duplicate", "no_echo", "no_close", "string_ids", "string_error", "all_segments", "no_words", "refuse",
})  # fmt: skip
_STATUSES = frozenset({"400", "401", "402", "403", "404", "408", "412", "429", "500", "502", "503", "504"})


@dataclass(frozen=True)
class SpeechFaults:
    """The faults of one connection. `blows` are (milliseconds of audio, what), in the order of their time."""

    status: int | None = None
    retry_after: str | None = None
    blows: tuple[tuple[int, Blow], ...] = ()
    code: int = 1011
    slow_echo_ms: int = 0
    times: int | None = None
    flags: frozenset[str] = frozenset()

    def has(self, flag: str) -> bool:
        """Whether a fault without argument is on."""
        return flag in self.flags

    def reply(self) -> ErrorReply | None:
        """The refusal of the upgrade, in the audio hosts' shape."""
        if self.status is None:
            return None
        reply = errors.e4(HTTPStatus(self.status).phrase, "A fault was asked for", self.status)
        return reply if self.retry_after is None else replace(reply, headers={"retry-after": self.retry_after})


def parse_speech_faults(specs: Iterable[str]) -> SpeechFaults:
    """Faults from `name` or `name=arg` texts. Raises FaultSyntax."""
    faults = SpeechFaults()
    for spec in specs:
        name, _, argument = (part.strip() for part in spec.partition("="))
        faults = _with(faults, name.lower(), argument)
    return replace(faults, blows=tuple(sorted(faults.blows, key=lambda blow: blow[0])))


def _with(faults: SpeechFaults, name: str, argument: str) -> SpeechFaults:
    if name in _STATUSES:
        return replace(faults, status=int(name), retry_after=argument or faults.retry_after)
    if name == "retry_after" and argument:
        return replace(faults, retry_after=argument)
    if name in _FLAGS and not argument:
        return replace(faults, flags=faults.flags | {name})
    if name in _BLOWS:
        return replace(faults, blows=(*faults.blows, (_whole(name, argument), _BLOWS[name])))
    match name:
        case "code":
            return replace(faults, code=_close_code(_whole(name, argument)))
        case "times":
            return replace(faults, times=_whole(name, argument))
        case "slow_echo":
            return replace(faults, slow_echo_ms=_whole(name, argument))
        case _:
            raise FaultSyntax(f"unknown emulator fault for speech: {name}{f'={argument}' if argument else ''}")


def _whole(name: str, argument: str) -> int:
    if not (argument.isascii() and argument.isdigit() and len(argument) < 10):
        raise FaultSyntax(f"emulator fault {name} needs a whole number, not {argument!r}")
    return int(argument)


def _close_code(number: int) -> int:
    # 1005, 1006 and 1015 describe the absence of a close frame and cannot be in one.
    if number in (1005, 1006, 1015) or not 1000 <= number < 5000:
        raise FaultSyntax(f"emulator fault code needs a close code that can be sent, not {number}")
    return number
