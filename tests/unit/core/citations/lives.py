"""A cited answer played by hand: its lives, what outlives them, and what must hold of every journal."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api_contracts import chat, citations
from api_contracts.chat import CHAT_EVENTS, FinishReason, Usage
from api_contracts.citations import CITE_EVENTS, CiteRequest, CiteResult, Style
from api_contracts.failure import Failure
from api_contracts.runs import RUN_EVENTS, EventData
from workers.core.chat import acts
from workers.core.chat.assembler import Answer
from workers.core.citations.answering import CiteAnswer
from workers.core.citations.state import CiteState
from workers.core.runs.frame import Action, Begin, Emit, Finish, Release, Woke

RUN = "run-1"
T0 = 1_000.0
BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
STALL = Failure(code="provider_gap_timeout", category="timeout", message="stalled", retryable=True, at_fault="provider")
REFUSED = Failure(code="refused", category="bad_request", message="no", at_fault="caller")
TYPES = {event.TYPE: event for event in (*RUN_EVENTS, *CHAT_EVENTS, *CITE_EVENTS)}

SOURCES: list[dict[str, Any]] = [
    {"id": "water", "content": "Water boils at 100 °C.", "metadata": {"title": "On Water"}},
    {"id": "ice", "content": "Ice melts at 0 °C."},
]
GOOD = 'Water "boils at 100 °C" [1]. Ice melts [2].'
UNCITED = "Water boils."


def request(**fields: Any) -> CiteRequest:
    asked = {"model": "m", "question": "When?", "sources": SOURCES, "max_sentences": 4}
    return CiteRequest.model_validate(asked | fields)


def says(text: str | None = GOOD, finish: FinishReason = "stop", reasoning: str | None = None) -> Answer:
    """Return an answer in words."""
    usage = Usage(prompt_tokens=10, completion_tokens=5)
    return Answer({"role": "assistant", "content": text}, reasoning, finish, (), usage, "req-1", "m", bool(text))


def plainly(items: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
    return [f"{item['title']}." for item in items]


@dataclass
class Life:
    """One life of a run, from its journal on. `trace` is what it did, in order: events and effects."""

    request: CiteRequest = field(default_factory=request)
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    now: float = T0
    trace: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = CiteAnswer(RUN, self.request, T0, plainly)
        for event, at in self.journal:
            self.machine.fold(event, at)

    def feed(self, *facts: object) -> list[Action]:
        """Hand it facts; return what it decided."""
        actions = [action for fact in facts for action in self.machine.receive(fact, self.now)]
        for action in actions:
            self.note(action)
        return actions

    def note(self, action: Action) -> None:
        """Take an action as done: events as they come back from the store."""
        self.trace.append(action)
        if isinstance(action, Emit):
            again = TYPES[action.event.TYPE].model_validate_json(action.event.to_json())
            assert again == action.event, "the event changes on its way through the store"
            self.journal.append((again, self.now))

    def begin(self, *facts: object) -> "Life":
        self.feed(Begin("w"), *facts)
        return self

    def reborn(self, kept: int | None = None) -> "Life":
        """The next worker's life: it knows the journal, or its beginning, and nothing else."""
        return Life(self.request, self.journal[:kept], self.now + 1)

    def at(self, now: float) -> list[Action]:
        """Let time come to `now`; the alarm goes off if it is set for that."""
        self.now = now
        due = self.machine.deadline
        return self.feed(Woke()) if due is not None and due <= now else []

    def said(self, *pieces: str) -> "Life":
        self.feed(*(acts.ModelSaid(self.attempt, piece, "") for piece in pieces))
        return self

    def answered(self, answer: Answer | str) -> list[Action]:
        """Let the present attempt answer."""
        return self.feed(acts.ModelAnswered(self.attempt, says(answer) if isinstance(answer, str) else answer))

    def failed(self, failure: Failure, jitter: float = 1.0) -> list[Action]:
        """Let the present attempt fail."""
        return self.feed(acts.ModelFailed(self.attempt, failure, jitter))

    # -- what it did -----------------------------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        return self.machine.state.attempt

    @property
    def events(self) -> list[EventData]:
        return [event for event, _ in self.journal]

    @property
    def types(self) -> list[str]:
        return [event.TYPE for event in self.events]

    @property
    def asked(self) -> list[acts.AskModel]:
        return [action for action in self.trace if isinstance(action, acts.AskModel)]

    @property
    def end(self) -> Finish | None:
        return next((action for action in self.trace if isinstance(action, Finish)), None)

    @property
    def over(self) -> bool:
        return any(isinstance(action, Finish | Release) for action in self.trace)

    @property
    def result(self) -> CiteResult:
        assert self.end is not None, "the run goes on"
        return CiteResult.model_validate(self.end.result)

    def last(self, kind: type[Any]) -> Any:
        """Return the last event or effect of this kind."""
        done = [action.event if isinstance(action, Emit) else action for action in self.trace]
        return [each for each in done if isinstance(each, kind)][-1]


def kinds(actions: Iterable[Action]) -> list[str]:
    """Return what was decided, in short: types of events, names of effects."""
    return [action.event.TYPE if isinstance(action, Emit) else type(action).__name__ for action in actions]


def check(life: Life) -> None:
    """Fail if the life broke what holds of every run."""
    _check_journal(life.events)
    ends = [place for place, action in enumerate(life.trace) if isinstance(action, Finish | Release)]
    assert ends in ([], [len(life.trace) - 1]), "something was decided after the end"
    announced = -1
    for action in life.trace:
        if isinstance(action, Emit) and isinstance(action.event, chat.ChatRequested):
            announced = action.event.attempt
        if isinstance(action, acts.AskModel):
            assert action.attempt == announced, "asked before it was said"
    state = CiteState(T0)
    for event, at in life.journal:
        state.fold(event, at)
    assert state == life.machine.state, "the state is not the fold of the journal"
    if life.end is not None:
        _check_result(life.result)


def _check_journal(events: list[EventData]) -> None:
    """Attempts are counted and come to something before the next; one repair at most; nothing after the check."""
    attempts, asking, repairs, said = 0, False, 0, ""
    for event in events:
        match event:
            case chat.ChatRequested():
                assert any(isinstance(e, citations.CiteResolved) for e in events[: events.index(event)])
                assert event.attempt == attempts + 1, "attempts are not counted one by one"
                assert not asking, "asked again before the last answer came to anything"
                assert event.round == 1 + repairs
                attempts, asking, said = event.attempt, True, ""
            case chat.ChatDelta():
                said += event.text
            case chat.ChatReplaced():
                assert event.attempt == attempts
                assert asking or repairs, "an answer that stands was voided"
                asking, said = False, ""
            case citations.CiteGenerated():
                assert asking, "an answer to nothing"
                assert said in ("", event.text), "the stream joined is another text"
                asking = False
            case citations.CiteRepaired():
                repairs += 1
                assert repairs == 1, "repaired twice"
            case citations.CiteChecked():
                assert not asking
                assert event is next(e for e in events if isinstance(e, citations.CiteChecked)), "checked twice"
            case _:
                pass


def _check_result(result: CiteResult) -> None:
    assert (result.failure is not None) == (result.status == "failed")
    assert (result.text != "") == (result.status == "completed"), "a text that was not checked is no answer"
    assert result.citations == [] or result.text
    assert {s for c in result.citations for s in c.source_ids} == {r.source_id for r in result.references}
    assert len(result.revisions) <= 2
    for citation in result.citations:
        for mark in citation.marks:
            assert result.text[mark.start : mark.end] == f"[{mark.number}]"


class Killed(Exception):
    """The worker died."""


@dataclass
class World:
    """What outlives a run's workers: the provider and the journal. `answers` gives the answer by attempt."""

    request: CiteRequest
    answers: Callable[[acts.AskModel], Answer | Failure]
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    now: float = T0

    def live(self, steps: int | None = None, most: int = 200) -> Life:
        """Live until the run ends, or die after so many steps: an event or an effect each."""
        life = Life(self.request, list(self.journal), self.now)
        facts: deque[object] = deque([Begin("w")])
        try:
            for _ in range(most):
                self._step(life, facts, steps)
                if life.over:
                    break
            else:
                raise AssertionError("the run does not end")
        except Killed:
            pass
        self.journal = life.journal
        self.now = life.now + 1
        return life

    def _step(self, life: Life, facts: "deque[object]", steps: int | None) -> None:
        if not facts:
            assert life.machine.deadline is not None, "the run waits for nothing"
            life.now = max(life.now, life.machine.deadline)
        for action in life.machine.receive(facts.popleft() if facts else Woke(), life.now):
            if steps is not None and len(life.trace) >= steps:
                raise Killed
            life.note(action)
            if isinstance(action, acts.AskModel):
                facts += self._replies(action)

    def _replies(self, ask: acts.AskModel) -> list[object]:
        said = self.answers(ask)
        if isinstance(said, Failure):
            return [acts.ModelSaid(ask.attempt, "Wat", ""), acts.ModelFailed(ask.attempt, said, 0.5)]
        text = str(said.message["content"] or "")
        pieces = [acts.ModelSaid(ask.attempt, piece, "") for piece in (text[:5], text[5:])]
        return [*pieces, acts.ModelAnswered(ask.attempt, said)]


def is_tight(ask: acts.AskModel) -> bool:
    """Return whether the tighter form was asked for."""
    return "Write short sentences" in ask.body["messages"][0]["content"]
