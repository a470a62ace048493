"""Whatever happens to a chat, in whatever order and however often: it never raises, and its journal keeps its rules."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api_contracts import chat
from api_contracts.runs import TERMINAL
from tests.unit.core.turns import BUSY, LATER, REFUSED, T0, Life, begun, check, local, remote, request, says, wants
from workers.core.chat.acts import CallSent, CallSettled, ModelAnswered, ModelFailed, ModelSaid, RunTool, SendCall
from workers.core.chat.assembler import Answer
from workers.core.circuit import refusal
from workers.core.runs.frame import Begin, Draining, Emit, SignalArrived, Woke

CARDS = [
    local("here", "pure"),
    local("once", "at_most_once", 5.0),
    remote("there", "idempotent", 5.0),
    remote("pay", "at_most_once"),
    replace(local("brew", "pure"), wait=False),
    replace(remote("build", "keyed"), wait=False),
]
SHUT = refusal("model", 20.0)
NAMES = [*(card.name for card in CARDS), "unknown"]
CALL_IDS = [f"{round_}.{place}" for round_ in range(4) for place in range(4)]

texts = st.text(max_size=5) | st.sampled_from(["", "\ud800", "a\x00", "…"])
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.lists(texts, max_size=2)
arguments = st.sampled_from(["{}", "", "{", "[]", '{"a": 1}'])
asked_calls = st.lists(
    st.tuples(st.sampled_from(NAMES), arguments, st.sampled_from(["", "a", "b", "call_1_0"])), min_size=1, max_size=4
)
answers: st.SearchStrategy[Answer] = st.one_of(
    *[asked_calls.map(lambda calls: wants(*calls))] * 5, st.builds(says, st.text())
)
limits = st.fixed_dictionaries({"rounds": st.integers(2, 6), "calls": st.integers(0, 6)})
requests = st.builds(
    lambda **fields: request(**fields),
    parallel_tools=st.integers(1, 3),
    deadline_s=st.sampled_from([None, None, None, 5, 100]),
    limits=limits,
    route=st.sampled_from([[], [], ["m", {"model": "n", "credential": "theirs"}], ["m", "n", "o"]]),
)
offsets = st.sampled_from([0, 0, 0, -1, 1])  # mostly the present attempt


class AnyLife(RuleBasedStateMachine):
    """Random facts, also twice, late and of things that never were; workers die between them."""

    @initialize(asks=requests, draining=st.booleans())
    def born(self, asks: Any, draining: bool) -> None:
        self.life = Life(asks, CARDS)
        self.begun: Counter[str] = Counter()
        self.letters = 0
        self.before: list[object] = []
        self.feed(*([Draining(T0 + 3)] if draining else []), Begin("w"))

    def feed(self, *facts: object) -> None:
        over = self.life.end is not None or self.life.released
        done = self.life.feed(*facts)
        self.before += facts
        assert not (over and done), "something was decided after the end"
        if (park := self.life.parked) and done:
            check(self.life)
            self.begun += begun(self.life.trace)
            self.life = Life(self.life.request, CARDS, self.life.journal, max(self.life.now, park.until or 0.0))
            self.feed(Begin("w"))

    @rule(offset=offsets, text=st.text(), reasoning=st.text())
    def model_says(self, offset: int, text: str, reasoning: str) -> None:
        self.feed(ModelSaid(self.life.attempt + offset, text, reasoning))

    @rule(offset=offsets, answer=answers)
    def model_answers(self, offset: int, answer: Answer) -> None:
        self.feed(ModelAnswered(self.life.attempt + offset, answer))

    @rule(offset=offsets, jitter=st.floats(0, 1), failure=st.sampled_from([BUSY, BUSY, LATER, REFUSED, SHUT]))
    def model_fails(self, offset: int, jitter: float, failure: Any) -> None:
        self.feed(ModelFailed(self.life.attempt + offset, failure, jitter))

    @rule(data=st.data())
    def call_is_sent(self, data: Any) -> None:
        self.feed(CallSent(self._a_call(data, SendCall)))

    @rule(data=st.data(), ok=st.booleans(), content=texts, detail=texts)
    def call_ends(self, data: Any, ok: bool, content: str, detail: str) -> None:
        self.feed(CallSettled(self._a_call(data, RunTool), ok, content, detail))

    @rule(data=st.data(), ok=st.booleans(), value=values, token=st.sampled_from([None, None, None, "wrong", ""]))
    def result_comes(self, data: Any, ok: bool, value: object, token: str | None) -> None:
        call_id = self._a_call(data, SendCall)
        call = self.life.machine.state.calls.get(call_id)
        own = call.reserved.token if call else "none"
        letter = {"call_id": call_id, "token": own if token is None else token, "ok": ok, "value": value}
        self._letter("tool_result", letter)

    @rule(
        kind=st.sampled_from(["cancel", "interrupt", "conflict", "approve", "tool_result", ""]),
        data=st.dictionaries(texts, values),
    )
    def letter_comes(self, kind: str, data: dict[str, Any]) -> None:
        if kind != "cancel" or self.letters % 5 == 4:  # else few runs would live
            self._letter(kind, data | {"reason": next(iter(data.values()), None)})

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 10.0, 70.0]), punctual=st.booleans())
    def time_passes(self, seconds: float, punctual: bool) -> None:
        self.life.now += seconds
        if punctual:
            self.feed(Woke())

    @rule(within=st.sampled_from([0.0, 5.0, 50.0]), chance=st.integers(0, 4))
    def worker_drains(self, within: float, chance: int) -> None:
        if chance == 0:
            self.feed(Draining(self.life.now + within))

    @precondition(lambda self: self.before)
    @rule(data=st.data())
    def something_happens_again(self, data: Any) -> None:
        fact = data.draw(st.sampled_from(self.before))
        if not isinstance(fact, Begin):
            self.feed(fact)

    @precondition(lambda self: self.life.end is None)
    @rule(data=st.data())
    def worker_dies(self, data: Any) -> None:
        """What stood after the last effect may not have been written."""
        check(self.life)
        trace = self.life.trace
        unsure = next((n for n, action in enumerate(reversed(trace)) if not isinstance(action, Emit)), len(trace))
        lost = data.draw(st.integers(0, unsure))
        self.begun += begun(trace)
        journal = self.life.journal[: len(self.life.journal) - lost]
        self.life = Life(self.life.request, CARDS, journal, self.life.now)
        self.feed(Begin("w"))

    @invariant()
    def it_waits_for_something(self) -> None:
        if hasattr(self, "life") and self.life.end is None and not self.life.released:
            machine = self.life.machine
            assert machine.state.asking or machine.deadline is not None, "the run waits for nothing"

    def teardown(self) -> None:
        """A rule of the journal that was broken once stays broken, so the end is soon enough to look."""
        if not hasattr(self, "life"):
            return
        check(self.life)
        assert not any(event.TYPE in TERMINAL for event in self.life.events), "the driver writes the end, not the core"
        reserved = {e.call_id: e.effect for e in self.life.events if isinstance(e, chat.CallReserved)}
        for call_id, times in (self.begun + begun(self.life.trace)).items():
            assert times == 1 or reserved[call_id] != "at_most_once", f"{call_id} took effect twice"
        if (end := self.life.end) is not None:
            assert end.result["status"] == end.status
            assert (end.failure is not None) == (end.status == "failed")

    def _letter(self, kind: str, data: dict[str, Any]) -> None:
        self.letters += 1
        self.feed(SignalArrived(f"{self.letters}-0", kind, data))

    def _a_call(self, data: Any, kind: type[RunTool] | type[SendCall]) -> str:
        made = [action.call_id for action in self.life.trace if isinstance(action, kind)]
        return str(data.draw(st.sampled_from([*made * 8, *CALL_IDS])))


AnyLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyLife = pytest.mark.long(pytest.mark.requirement("TOOL-06", "TOOL-11", "TOOL-12", "RUN-04")(AnyLife.TestCase))


# -- every state, every fact -------------------------------------------------------------------------------------------


def _asking() -> Life:
    return Life(request(), CARDS).begin()


def _calling(*names: str) -> Life:
    life = _asking()
    life.answered(wants(*names))
    return life


def _resumed(life: Life) -> Life:
    return Life(life.request, CARDS, life.journal, life.now + 1).begin()


def _after(life: Life, *facts: object) -> Life:
    life.feed(*facts)
    return life


STATES: dict[str, Callable[[], Life]] = {
    "not begun": lambda: Life(request(), CARDS),
    "asking": _asking,
    "speaking": lambda: _after(_asking(), ModelSaid(1, "a", "b")),
    "pausing": lambda: _after(_asking(), ModelFailed(1, BUSY, 1.0)),
    "running a tool": lambda: _calling("here", "once"),
    "sending a call": lambda: _calling("there", "pay"),
    "waiting for a service": lambda: _after(_calling("pay"), CallSent("1.0")),
    "in the background": lambda: _calling("brew", "build"),
    "waiting for the background": lambda: _after(_calling("brew", "build"), ModelAnswered(2, says())),
    "with news": lambda: _after(_calling("brew", "build"), CallSettled("1.0", ok=True, content="")),
    "told": lambda: _after(
        _calling("brew", "build"), CallSettled("1.0", ok=True, content=""), ModelAnswered(2, says())
    ),
    "asking again": lambda: _after(_calling("here"), CallSettled("1.0", ok=True, content="")),
    "resumed asking": lambda: _resumed(_asking()),
    "resumed pausing": lambda: _resumed(_after(_asking(), ModelFailed(1, BUSY, 1.0))),
    "resumed calling": lambda: _resumed(_calling("here", "once", "there", "pay")),
    "draining": lambda: _after(_asking(), Draining(T0 + 9)),
    "draining tools": lambda: _after(_calling("here", "pay"), Draining(T0 + 9)),
    "released": lambda: _after(_asking(), Draining(T0 + 9), ModelFailed(1, BUSY, 1.0)),
    "completed": lambda: _after(_asking(), ModelAnswered(1, says())),
    "failed": lambda: _after(_asking(), ModelFailed(1, REFUSED, 1.0)),
    "cancelled": lambda: _after(_asking(), SignalArrived("1-0", "cancel", {})),
}
LETTERS: list[Mapping[str, Any]] = [
    {}, {"call_id": "1.0"}, {"call_id": "1.0", "token": None, "ok": True}, {"reason": []},
]  # fmt: skip
FACTS: dict[str, list[object]] = {
    "said": [ModelSaid(1, "x", "y"), ModelSaid(2, "x", ""), ModelSaid(0, "", "")],
    "answered": [ModelAnswered(n, a) for n in (0, 1, 2) for a in (says(), says(""), wants("here", "pay", "unknown"))],
    "failed": [ModelFailed(n, f, 1.0) for n in (0, 1, 2) for f in (BUSY, REFUSED)],
    "sent": [CallSent("1.0"), CallSent("1.1"), CallSent("9.9")],
    "settled": [CallSettled(c, ok=ok, content="") for c in ("1.0", "1.1", "9.9") for ok in (True, False)],
    "letter": [
        SignalArrived("7-0", kind, data)
        for kind in ("cancel", "interrupt", "conflict", "tool_result", "approve")
        for data in LETTERS
    ],
    "woke": [Woke()],
    "draining": [Draining(T0), Draining(T0 + 99)],
    "strange": [object(), None, "text"],
}


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("later", [0.0, 5.0, 1000.0])
def test_any_fact_in_any_state_is_taken_without_harm(state: str, fact: str, later: float) -> None:
    for each in FACTS[fact]:
        life = STATES[state]()
        over = life.end is not None or life.released
        life.now += later
        done = life.feed(each)
        assert not (over and done)
        check(life)
