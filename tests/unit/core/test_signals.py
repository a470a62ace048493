"""Each signal to each kind of run at each stage of its life: taken once, told in the journal, and never a crash."""

from collections.abc import Callable
from typing import Any

import pytest

from api_contracts.batch import BatchRequest
from api_contracts.chat import ChatRequest
from api_contracts.citations import CiteRequest
from api_contracts.runs import EventData, RunCancelling, RunIgnored, RunParked
from api_contracts.signals import SIGNALS
from api_contracts.stt import SttRequest
from api_contracts.stt_files import SttFileRequest
from tests.unit.core.citations.lives import plainly
from tests.unit.test_signals import GOOD
from workers.core.batch.submission import BatchSubmission
from workers.core.chat.turn import ChatTurn
from workers.core.citations.answering import CiteAnswer
from workers.core.runs.frame import Action, Begin, Emit, Finish, Machine, SignalArrived, Woke
from workers.core.stt.files.transcription import FileTranscription
from workers.core.stt.session import SttSession

pytestmark = pytest.mark.requirement("RUN-06")

T0 = 1_000_000.0
MODEL = "accounts/fireworks/models/any"
TALK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
ASKED: dict[str, Any] = {"model": MODEL, "question": "when?", "sources": [{"id": "a", "content": "In 1874."}]}
ROWS: dict[str, Any] = {"model": MODEL, "rows": [{"body": {"messages": TALK["messages"]}}]}

MACHINES: dict[str, Callable[[], Machine]] = {
    "chat": lambda: ChatTurn("run-1", ChatRequest.model_validate(TALK), {}, T0, "secret"),
    "stt": lambda: SttSession("run-1", SttRequest(), T0),
    "stt_file": lambda: FileTranscription(
        "run-1", SttFileRequest.model_validate({"url": "https://example.org/talk.mp3"}), T0
    ),
    "batch": lambda: BatchSubmission("run-1", BatchRequest.model_validate(ROWS), T0),
    "cite": lambda: CiteAnswer("run-1", CiteRequest.model_validate(ASKED), T0, plainly),
}
STRANGE: tuple[dict[str, Any], ...] = ({}, {"by": 5, "reason": ["x"], "call_id": {}}, {"by": "\ud800\0" * 300})


class Life:
    """One machine, and what it wrote."""

    def __init__(self, kind: str, journal: list[EventData] | None = None) -> None:
        self.kind = kind
        self.machine = MACHINES[kind]()
        self.journal: list[EventData] = []
        self.now = T0
        for event in journal or ():
            self.journal.append(event)
            self.machine.fold(event, self.now)

    def feed(self, fact: object) -> list[Action]:
        self.now += 0.001
        actions = self.machine.receive(fact, self.now)
        self.journal += [action.event for action in actions if isinstance(action, Emit)]
        return actions

    def hear(self, number: int, signal: str, data: dict[str, Any]) -> tuple[list[Action], EventData]:
        """Send a signal; return what it led to, and the one event that took it."""
        letter = f"{number}-0"
        actions = self.feed(SignalArrived(letter, signal, data))
        events = [action.event for action in actions if isinstance(action, Emit)]
        (taken,) = [event for event in events if getattr(event, "inbox", None) == letter]
        assert self.machine.cursor == letter
        assert Life(self.kind, self.journal).machine.cursor == letter, "a successor would take it again"
        return actions, taken


def with_the_begin(kind: str) -> Life:
    """Before the start: letters that lie there are decided together with the begin."""
    life = Life(kind)
    life.feed(Begin("ann"))
    return life


def running(kind: str) -> Life:
    life = with_the_begin(kind)
    life.feed(Woke())
    return life


def parked(kind: str) -> Life:
    """The next life of one that was parked hears what came meanwhile."""
    life = Life(kind, [*running(kind).journal, RunParked(why="it waits")])
    life.feed(Begin("bob"))
    return life


STAGES = pytest.mark.parametrize("stage", [with_the_begin, running, parked], ids=lambda stage: stage.__name__)
KINDS = pytest.mark.parametrize("kind", MACHINES)
KNOWN = {("chat", "update_settings"), ("chat", "interrupt"), ("stt", "update_settings")}


def changing_nothing(kind: str) -> list[str]:
    """Return the signals that mean nothing to a run of this kind as it stands."""
    return [signal for signal in SIGNALS if signal != "cancel" and (kind, signal) not in KNOWN]


@STAGES
@KINDS
def test_a_signal_that_a_kind_does_not_know_is_told_as_ignored_and_the_run_goes_on(
    kind: str, stage: Callable[[str], Life]
) -> None:
    life = stage(kind)
    for number, signal in enumerate(changing_nothing(kind), 1):
        actions, taken = life.hear(number, signal, {**GOOD[signal], "by": "ann"})
        assert isinstance(taken, RunIgnored), signal
        assert (taken.signal, taken.by) == (signal, "ann")
        assert taken.reason
        assert not any(isinstance(action, Finish) for action in actions)


@STAGES
@KINDS
def test_strange_data_are_no_crash(kind: str, stage: Callable[[str], Life]) -> None:
    life, number = stage(kind), 0
    for signal in (*changing_nothing(kind), "no such signal", "\ud800"):
        for data in STRANGE:
            number += 1
            _, taken = life.hear(number, signal, data)
            assert isinstance(taken, RunIgnored)
            taken.to_json().encode()


@STAGES
@pytest.mark.requirement("STT-12")
def test_a_session_hears_of_settings_at_every_stage(stage: Callable[[str], Life]) -> None:
    _, taken = stage("stt").hear(1, "update_settings", {**GOOD["update_settings"], "by": "ann"})
    assert taken.TYPE == "stt.settings"
    for data in STRANGE:
        _, taken = stage("stt").hear(1, "update_settings", data)
        assert isinstance(taken, RunIgnored)
        taken.to_json().encode()


@STAGES
@pytest.mark.requirement("CHAT-21")
def test_a_chat_hears_an_interrupt_at_every_stage(stage: Callable[[str], Life]) -> None:
    for data in ({"by": "ann"}, *STRANGE):
        actions, taken = stage("chat").hear(1, "interrupt", data)
        assert taken.TYPE == "chat.message"
        assert isinstance(actions[-1], Finish)
        assert actions[-1].status == "completed"
        taken.to_json().encode()


@STAGES
@KINDS
def test_a_cancel_is_told_with_who_and_why_and_after_the_end_nothing_is_heard(
    kind: str, stage: Callable[[str], Life]
) -> None:
    life = stage(kind)
    actions, taken = life.hear(1, "cancel", {"reason": "enough", "by": "ann"})
    assert taken == RunCancelling(inbox="1-0", reason="enough", by="ann")
    finish = next((action for action in actions if isinstance(action, Finish)), None)
    if (
        kind == "batch"
    ):  # what was begun (rows, uploads, jobs) is taken back first: tests/unit/core/batch/test_endings.py
        return
    assert finish is not None
    assert finish.status == "cancelled"
    for signal in SIGNALS:
        assert life.feed(SignalArrived("2-0", signal, dict(GOOD[signal]))) == []
