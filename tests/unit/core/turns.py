"""A chat run played by hand: its lives, what outlives them, and what must hold of every journal."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from api_contracts import chat
from api_contracts.chat import ChatRequest, Effect, FinishReason, Usage
from api_contracts.failure import Failure
from api_contracts.runs import EventData, RunResumed
from api_contracts.vocabulary import EVENT_TYPES
from workers.core.chat import acts, background
from workers.core.chat.assembler import Answer, AssembledCall
from workers.core.chat.cards import ToolCard
from workers.core.chat.state import ChatState
from workers.core.chat.turn import ChatTurn
from workers.core.runs.frame import Action, Begin, Emit, Finish, Park, Release, SignalArrived, Woke

RUN = "run-1"
T0 = 1_000.0
BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
LATER = BUSY.model_copy(update={"retry_after_s": 20.0})
REFUSED = Failure(code="refused", category="bad_request", message="no", at_fault="caller")

SETTLES = (chat.CallResult, chat.CallFailed, chat.CallCancelled, chat.CallTimedOut, chat.CallOutcomeUnknown)


def request(**fields: Any) -> ChatRequest:
    """Return a request with one question."""
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def local(name: str, effect: Effect = "pure", timeout_s: float = 60.0) -> ToolCard:
    """Return a tool of this worker."""
    return ToolCard(name, f"does {name}", {"type": "object", "properties": {}}, effect, timeout_s)


def remote(name: str, effect: Effect = "pure", timeout_s: float = 60.0) -> ToolCard:
    """Return a tool of another service."""
    schema = {"type": "object", "properties": {}}
    return ToolCard(name, f"does {name}", schema, effect, timeout_s, task=f"svc.{name}", queue="svc")


def says(text: str = "hello", finish: FinishReason = "stop", reasoning: str | None = None) -> Answer:
    """Return an answer in words."""
    message = {"role": "assistant", "content": text}
    return Answer(
        message, reasoning, finish, (), Usage(prompt_tokens=10, completion_tokens=5), "req-1", "m", bool(text)
    )


def wants(*calls: str | tuple[str, str] | tuple[str, str, str], text: str | None = None) -> Answer:
    """Return an answer that calls tools: a name, (name, arguments) or (name, arguments, provider's id) each."""
    made: list[AssembledCall] = []
    for place, given in enumerate(calls):
        name, arguments, *ids = (given, "{}") if isinstance(given, str) else given
        made.append(AssembledCall(place, ids[0] if ids else f"p{place}", name, arguments))
    shown = [
        {"id": c.provider_id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in made
    ]
    message = {"role": "assistant", "content": text, "tool_calls": shown}
    return Answer(message, None, "tool_calls", tuple(made), Usage(completion_tokens=3), None, None, True)


@dataclass
class Life:
    """One life of a run, from its journal on. `trace` is what it did, in order: events and effects."""

    request: ChatRequest
    cards: Sequence[ToolCard] = ()
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    now: float = T0
    trace: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = ChatTurn(RUN, self.request, {card.name: card for card in self.cards}, T0, "secret")
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
            again = EVENT_TYPES[action.event.TYPE].model_validate_json(action.event.to_json())
            assert again == action.event, "the event changes on its way through the store"
            self.journal.append((again, self.now))

    def begin(self, *facts: object) -> "Life":
        """Begin, and hand it facts."""
        self.feed(Begin("w"), *facts)
        return self

    def at(self, now: float) -> list[Action]:
        """Let time come to `now`; the alarm goes off if it is set for that."""
        self.now = now
        due = self.machine.deadline
        return self.feed(Woke()) if due is not None and due <= now else []

    def answered(self, answer: Answer) -> list[Action]:
        """Let the present attempt answer."""
        return self.feed(acts.ModelAnswered(self.attempt, answer))

    def failed(self, failure: Failure, jitter: float = 1.0) -> list[Action]:
        """Let the present attempt fail."""
        return self.feed(acts.ModelFailed(self.attempt, failure, jitter))

    def settled(self, call_id: str, content: str = "done", *, ok: bool = True, detail: str = "") -> list[Action]:
        """Let a call of this worker end."""
        return self.feed(acts.CallSettled(call_id, ok, content, detail))

    def letter(self, call_id: str, inbox: str = "1-0", /, **data: Any) -> SignalArrived:
        """Return a result letter with the call's token, unless another is given."""
        token = self.machine.state.calls[call_id].reserved.token
        return SignalArrived(inbox, "tool_result", {"call_id": call_id, "token": token, "ok": True} | data)

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
    def end(self) -> Finish | None:
        return next((action for action in self.trace if isinstance(action, Finish)), None)

    @property
    def result(self) -> dict[str, Any]:
        assert self.end is not None, "the run goes on"
        return dict(self.end.result)

    @property
    def parked(self) -> Park | None:
        """How it was left to wait, if that was the last that was decided."""
        rest = [action for action in self.trace if not isinstance(action, Emit)]
        return rest[-1] if rest and isinstance(rest[-1], Park) else None

    @property
    def released(self) -> bool:
        return any(isinstance(action, Release) for action in self.trace)

    def last(self, kind: type[Any]) -> Any:
        """Return the last event or effect of this kind."""
        done = [action.event if isinstance(action, Emit) else action for action in self.trace]
        return [each for each in done if isinstance(each, kind)][-1]

    def ledger(self) -> dict[str, str]:
        """Return the state of each call."""
        return {call_id: call.state for call_id, call in self.machine.state.calls.items()}

    def told(self) -> list[str]:
        """Return what the tools told the model in the last request."""
        return [m["content"] for m in self.last(acts.AskModel).body["messages"] if m["role"] == "tool"]


def kinds(actions: Iterable[Action]) -> list[str]:
    """Return what was decided, in short: types of events, names of effects."""
    return [action.event.TYPE if isinstance(action, Emit) else type(action).__name__ for action in actions]


def begun(trace: Iterable[Action]) -> Counter[str]:
    """Return how often each call was begun."""
    return Counter(action.call_id for action in trace if isinstance(action, acts.RunTool | acts.SendCall))


def check(life: Life) -> None:
    """Fail if the life broke what holds of every run."""
    _check_ledger(life.events)
    _check_patience(life.journal)
    _check_announcements(life)
    for action in life.trace:
        if isinstance(action, acts.AskModel):
            _check_messages(action.body["messages"])
    ends = [place for place, action in enumerate(life.trace) if isinstance(action, Finish | Release)]
    assert not (completed(life) and life.machine.state.is_running), "completed before every call was over"
    assert len(ends) <= 1, "ended twice"
    assert not ends or ends[0] == len(life.trace) - 1, "something was decided after the end"
    state = ChatState(T0)
    for event, at in life.journal:
        state.fold(event, at)
    assert state == life.machine.state, "the state is not the fold of the journal"


def _check_ledger(events: list[EventData]) -> None:
    """TOOL-12: reserved, perhaps running, then one end; every call belongs to its batch; rounds are joined once."""
    states: dict[str, str] = {}
    background: set[str] = set()
    attempts, asking = 0, False
    for event in events:
        call_id = getattr(event, "call_id", None)
        match event:
            case chat.CallReserved():
                assert call_id not in states, "reserved twice"
                states[event.call_id] = "reserved"
                background |= {event.call_id} if event.wait is False else set()
            case chat.CallStarted():
                assert states[event.call_id] == "reserved", "started out of turn"
                states[event.call_id] = "running"
            case chat.CallLateResult():
                assert states[event.call_id] == "settled", "called late before it was settled"
            case _ if isinstance(event, SETTLES):
                assert states[str(call_id)] in ("reserved", "running"), "left a settled state"
                states[str(call_id)] = "settled"
            case chat.BatchJoined() | chat.ChatRequested():
                waited_for = {state for each, state in states.items() if each not in background}
                assert waited_for <= {"settled"}, "went on before every call was settled"
                if isinstance(event, chat.ChatRequested):
                    attempts += 1
                    assert event.attempt == attempts, "attempts are not counted one by one"
                    assert not asking, "asked again before the last answer came to anything"
                    asking = True
            case chat.ChatDelta() | chat.ChatReasoning() | chat.ChatReplaced():
                assert event.attempt == attempts
                asking = asking and not isinstance(event, chat.ChatReplaced)
            case chat.ChatMessage():
                assert asking or event.interrupted, "an answer to nothing"
                asking = False


def _check_patience(journal: list[tuple[EventData, float]]) -> None:
    """CHAT-10: the model is asked no sooner than it was said, but for an operator's word."""
    not_before = 0.0
    for event, at in journal:
        match event:
            case chat.ChatReplaced():
                not_before = event.retry_at or 0.0
            case RunResumed(inbox=str()):
                not_before = 0.0
            case chat.ChatRequested():
                assert at >= not_before, "asked again too soon"
            case _:
                pass


def _check_announcements(life: Life) -> None:
    """Every effect stands after the events that announce it."""
    before = life.journal[: len(life.journal) - sum(isinstance(a, Emit) for a in life.trace)]
    reserved = {e.call_id for e, _ in before if isinstance(e, chat.CallReserved)}
    started = {e.call_id for e, _ in before if isinstance(e, chat.CallStarted)}
    asked = -1
    for action in life.trace:
        match action:
            case Emit(chat.CallReserved(call_id=call_id)):
                reserved.add(call_id)
            case Emit(chat.CallStarted(call_id=call_id)):
                started.add(call_id)
            case Emit(chat.ChatRequested(attempt=attempt)):
                asked = attempt
            case acts.AskModel():
                assert action.attempt == asked, "asked before it was said"
            case acts.RunTool():
                assert action.call_id in started, "run before it was said"
            case acts.SendCall():
                assert action.call_id in reserved, "sent before it was said"


def _check_messages(messages: list[dict[str, Any]]) -> None:
    """TOOL-06: after a message with calls comes one result of each, in order, and nothing else.

    TOOL-13: what came of a call is told once, and of one that runs in the background not before it is over.
    """
    told = [m for m in messages if m["role"] == "user" and str(m["content"]).startswith("News of call ")]
    running = {m["tool_call_id"] for m in messages if m["role"] == "tool" and m["content"] == background.RUNS}
    of = [next(each for each in running if background.tells(m, each)) for m in told]
    assert len(of) == len(set(of)), "a call was told of twice"
    rest = deque(messages)
    while rest:
        message = rest.popleft()
        assert message["role"] != "tool", "a result without its call"
        for call in message.get("tool_calls") or ():
            answer = rest.popleft() if rest else {}
            assert answer.get("tool_call_id") == call["id"], f"no result of {call['id']} after its message"


class Killed(Exception):
    """The worker died."""


@dataclass
class World:
    """What outlives a run's workers: the provider, the inbox, the services that were sent calls.

    `answers` gives the answer by round; `silent` names the tools of other services that never answer.
    """

    request: ChatRequest
    cards: Sequence[ToolCard]
    answers: Callable[[int, int], Answer | Failure]
    silent: frozenset[str] = frozenset()
    inbox: list[SignalArrived] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    now: float = T0

    def live(self, steps: int | None = None, most: int = 500) -> Life:
        """Live until the run ends, over its parks, or die after so many steps: an event or an effect each."""
        while True:
            life = self._live(steps, most)
            if life.parked is None or steps is not None:
                return life
            self.now = max(self.now, life.parked.until or 0.0)

    def _live(self, steps: int | None, most: int) -> Life:
        life = Life(self.request, self.cards, list(self.journal), self.now)
        kept = len(life.journal)
        cursor = life.machine.cursor
        facts: deque[object] = deque([Begin("w")])
        facts += [letter for letter in self.inbox if _order(letter.id) > _order(cursor)]
        try:
            for _ in range(most):
                self._step(life, facts, steps)
                if life.end or life.released or (life.parked and not facts):
                    break
            else:
                raise AssertionError("the run does not end")
        except Killed:
            pass
        finally:
            self.journal += life.journal[kept:]
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
            if not isinstance(action, Emit):
                self.done.append(action)
            facts += self._replies(action)

    def _replies(self, action: Action) -> list[object]:
        match action:
            case Emit(chat.CallReserved(approval=True, call_id=call_id)):
                return [self._posted("approve", {"call_id": call_id, "by": "ann"})]
            case acts.AskModel(attempt, body):
                said = self.answers(sum(m["role"] == "assistant" for m in body["messages"]), attempt)
                if isinstance(said, Failure):
                    return [acts.ModelFailed(attempt, said, 0.5)]
                return [
                    acts.ModelSaid(attempt, str(said.message["content"] or ""), ""),
                    acts.ModelAnswered(attempt, said),
                ]
            case acts.RunTool(call_id, name):
                return [acts.CallSettled(call_id, ok=True, content=f"{name} ran")]
            case acts.AskTool(call_id, name):
                return [acts.CallReconciled(call_id, happened=True, content=f"{name} had run")]
            case acts.SendCall():
                return [acts.CallSent(action.call_id), *self._served(action)]
            case _:
                return []

    def _served(self, sent: acts.SendCall) -> list[object]:
        """The service answers each message that it gets, so a repeat is answered twice."""
        if sent.task.removeprefix("svc.") in self.silent:
            return []
        data = {"call_id": sent.call_id, "token": sent.token, "ok": True, "value": {"by": sent.task}}
        return [self._posted("tool_result", data)]

    def _posted(self, kind: str, data: dict[str, Any]) -> SignalArrived:
        letter = SignalArrived(f"{len(self.inbox) + 1}-0", kind, data)
        self.inbox.append(letter)
        return letter


def _order(stream_id: str) -> int:
    return int(stream_id.partition("-")[0])


def completed(life: Life) -> bool:
    """Return whether the run came to its answer."""
    return life.end is not None and life.end.status == "completed"
