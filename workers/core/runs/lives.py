"""How often a run was begun without getting anywhere. Pure.

A run that kills its worker each time, by its size or by a defect, would otherwise go from worker to worker for ever.
"""

from collections.abc import Sequence
from typing import Final

from api_contracts import chat, runs, stt, stt_files
from api_contracts.batch import BatchTrouble
from api_contracts.failure import Failure
from api_contracts.runs import Event

_REPEATED: Final = frozenset(
    event.TYPE
    for event in (
        runs.RunStarted, runs.RunResumed, runs.RunCancelling, runs.RunConflicted, runs.RunIgnored,
        chat.ChatRequested, chat.ChatDelta, chat.ChatReasoning, chat.ChatReplaced, chat.CallStarted,
        stt.SttConnected, stt.SttStartOfSpeech, stt.SttInterim, stt.SttRetracted, stt.SttUsage, stt.SttLost,
        stt.SttRepeat, stt.SttLag, stt.SttReconnecting, stt.SttTrouble, stt_files.SttRequested, stt_files.SttReplaced,
        stt_files.SttTranscribed, BatchTrouble,
    )
)  # fmt: skip
"""What each life may tell anew. Anything else is a step that the next life need not do again."""


def lives_without_a_step(events: Sequence[Event]) -> int:
    """Return how many lives in a row, up to now, told nothing that lasts. A run that parked had got somewhere."""
    lives = 0
    for event in reversed(events):
        if event.type not in _REPEATED:
            break
        lives += event.type in (runs.RunStarted.TYPE, runs.RunResumed.TYPE)
    return lives


def worn_out(lives: int) -> Failure:
    """Return the failure of a run that is given up."""
    return Failure(
        code="workers_lost",
        category="internal",
        message=f"its worker was lost {lives} times in a row, and no life of it came to a step that lasts; "
        "the owners are in its journal, FW_MOST_LIVES says how many are lost before it is given up",
        at_fault="us",
    )
