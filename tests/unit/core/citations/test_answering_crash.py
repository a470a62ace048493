"""A worker may die after any event and any effect of a cited answer, and the run goes on and ends the same."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api_contracts import chat, citations
from api_contracts.chat import FinishReason
from api_contracts.failure import Failure
from api_contracts.runs import TERMINAL
from tests.unit.core.citations.lives import (
    BUSY,
    GOOD,
    REFUSED,
    STALL,
    T0,
    UNCITED,
    Life,
    World,
    check,
    is_tight,
    kinds,
    request,
    says,
)
from workers.core.chat.acts import AskModel, ModelAnswered, ModelFailed, ModelSaid
from workers.core.chat.assembler import Answer
from workers.core.runs.frame import Begin, Draining, Emit, SignalArrived, Woke

Outcome = Answer | Failure


def scene(first: Sequence[Outcome], tight: Outcome = BUSY, **fields: Any) -> tuple[Any, list[Outcome], Outcome]:
    """A run as it would go if nobody died: what comes of the first form, one after the other, and of the tighter."""
    return request(**fields), list(first), tight


SCENES = {
    "plain": scene([says()]),
    "auto": scene([says(UNCITED)], policy="auto"),
    "failing": scene([BUSY, BUSY, says()]),
    "repaired": scene([says(UNCITED)], says()),
    "cut off": scene([says(GOOD, "length")], says()),
    "stalled": scene([STALL], says()),
    "never holds": scene([says(UNCITED)], says(UNCITED)),
    "filtered": scene([says("Wa", "content_filter")]),
    "refused": scene([REFUSED]),
}
ENDS = {"never holds": "answer_outside_grammar", "filtered": "answer_filtered", "refused": "refused"}


def world(name: str) -> World:
    """The provider answers by the form that is asked for; a failure of the first form happens once."""
    asked, first, tight = SCENES[name]
    left = list(first)

    def answer(ask: AskModel) -> Outcome:
        if is_tight(ask):
            return tight
        return left.pop(0) if len(left) > 1 and isinstance(left[0], Failure) else left[0]

    return World(asked, answer)


def check_end(life: Life, whole: Life) -> None:
    check(life)
    assert life.end is not None
    assert life.result.failure == whole.result.failure
    same = {"text", "citations", "references", "uncited", "coverage", "status", "passages"}
    assert life.result.model_dump(include=same) == whole.result.model_dump(include=same)
    assert [(r.reason, r.text) for r in life.result.revisions] == [(r.reason, r.text) for r in whole.result.revisions]


@pytest.mark.parametrize("name", SCENES)
def test_without_a_crash_every_scene_ends_as_it_should(name: str) -> None:
    life = world(name).live()
    check(life)
    assert life.end is not None
    code = life.result.failure.code if life.result.failure else None
    assert code == ENDS.get(name)


@pytest.mark.requirement("RUN-04", "CITE-05", "CITE-13")
@pytest.mark.parametrize("name", SCENES)
def test_a_worker_may_die_anywhere(name: str) -> None:
    whole = world(name).live()
    for steps in range(len(whole.trace)):
        lives = world(name)
        first = lives.live(steps)
        second = lives.live()
        check_end(second, whole)
        generated = [e for e in first.events if isinstance(e, citations.CiteGenerated)]
        if generated and name not in ("repaired", "cut off", "never holds"):
            assert not second.asked, "an answer that is in the journal is not asked for again"


@pytest.mark.requirement("RUN-04", "CITE-05")
@given(name=st.sampled_from(sorted(SCENES)), deaths=st.lists(st.integers(0, 14), max_size=8))
@settings(max_examples=60, deadline=None)
def test_workers_may_die_again_and_again(name: str, deaths: list[int]) -> None:
    whole, lives = world(name).live(), world(name)
    for steps in deaths:
        life = lives.live(steps)
        if life.end:
            break
    else:
        life = lives.live()
    check_end(life, whole)


@pytest.mark.requirement("RUN-04", "CITE-10")
def test_a_successor_says_that_the_lost_answer_is_void_and_asks_again() -> None:
    life = Life().begin().said("Water boils at")
    again = life.reborn().begin()
    assert kinds(again.trace) == ["run.resumed", "chat.replaced", "chat.requested", "AskModel"]
    assert again.last(chat.ChatReplaced) == chat.ChatReplaced(attempt=1, reason="its worker was lost")
    assert again.attempt == 2
    again.said(GOOD).answered(GOOD)
    assert again.result.text == GOOD
    check(again)


@pytest.mark.requirement("RUN-04")
def test_an_answer_that_was_written_is_judged_by_the_successor() -> None:
    life = Life().begin()
    life.answered(GOOD)
    before = 1 + life.types.index("cite.generated")
    assert kinds(life.reborn(before).begin().trace) == ["run.resumed", "cite.checked", "Finish"]
    assert kinds(life.reborn().begin().trace) == ["run.resumed", "Finish"], "it was checked"
    assert life.reborn().begin().result.citations == life.result.citations


@pytest.mark.requirement("RUN-04", "CITE-01")
def test_a_successor_that_cuts_the_sources_anew_says_so_before_it_asks() -> None:
    life = Life().begin()
    older = [
        (event.model_copy(update={"grammar": "0" * 32}) if isinstance(event, citations.CiteResolved) else event, at)
        for event, at in life.journal
    ]
    again = Life(life.request, older, T0 + 1).begin()
    assert kinds(again.trace) == ["run.resumed", "chat.replaced", "cite.resolved", "chat.requested", "AskModel"]


# -- whatever happens, in whatever order and however often -------------------------------------------------------------

TEXTS = (GOOD, UNCITED, "", "Water boils [9].", "<think>x</think>Ice melts [2].", "\ud800", "Ice melts [2].\n")
texts = st.text(max_size=6) | st.sampled_from(TEXTS)
finishes: st.SearchStrategy[FinishReason] = st.sampled_from(("stop", "stop", "stop", "length", "content_filter"))
offsets = st.sampled_from([0, 0, 0, -1, 1])
requests = st.builds(
    lambda **fields: request(**fields),
    policy=st.sampled_from(["required", "auto"]),
    deadline_s=st.sampled_from([None, None, 5, 100]),
    verify=st.sampled_from([[], ["existence", "verbatim"]]),
)


class AnyLife(RuleBasedStateMachine):
    """Random facts, also twice, late and of attempts that never were; workers die between them."""

    @initialize(asks=requests, draining=st.booleans())
    def born(self, asks: Any, draining: bool) -> None:
        self.life = Life(asks)
        self.letters = 0
        self.spoken = ""
        self.feed(*([Draining(T0 + 3)] if draining else []), Begin("w"))

    def feed(self, *facts: object) -> None:
        over = self.life.over
        attempt = self.life.attempt
        done = self.life.feed(*facts)
        assert not (over and done), "something was decided after the end"
        if self.life.attempt != attempt:
            self.spoken = ""

    @rule(offset=offsets, text=texts, reasoning=st.text(max_size=3))
    def model_says(self, offset: int, text: str, reasoning: str) -> None:
        if offset == 0:
            self.spoken += text
        self.feed(ModelSaid(self.life.attempt + offset, text, reasoning))

    @rule(offset=offsets, text=texts, finish=finishes)
    def model_answers(self, offset: int, text: str, finish: FinishReason) -> None:
        """What it said, then the rest: so the provider does."""
        if offset == 0:
            self.feed(ModelSaid(self.life.attempt, text, ""))
            text = self.spoken + text
        self.feed(ModelAnswered(self.life.attempt + offset, says(text, finish)))

    @rule(offset=offsets, jitter=st.floats(0, 1), failure=st.sampled_from([BUSY, BUSY, STALL, REFUSED]))
    def model_fails(self, offset: int, jitter: float, failure: Failure) -> None:
        self.feed(ModelFailed(self.life.attempt + offset, failure, jitter))

    @rule(kind=st.sampled_from(["cancel", "conflict", "conflict", "tool_result", ""]), reason=texts)
    def letter_comes(self, kind: str, reason: str) -> None:
        self.letters += 1
        if kind != "cancel" or self.letters % 4 == 3:  # else few runs would live
            self.feed(SignalArrived(f"{self.letters}-0", kind, {"reason": reason, "digest": reason}))

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 40.0]), punctual=st.booleans())
    def time_passes(self, seconds: float, punctual: bool) -> None:
        self.life.now += seconds
        if punctual:
            self.feed(Woke())

    @rule(within=st.sampled_from([0.0, 5.0]), chance=st.integers(0, 4))
    def worker_drains(self, within: float, chance: int) -> None:
        if chance == 0:
            self.feed(Draining(self.life.now + within))

    @precondition(lambda self: self.life.end is None)
    @rule(data=st.data())
    def worker_dies(self, data: Any) -> None:
        """What stood after the last effect may not have been written."""
        check(self.life)
        trace = self.life.trace
        unsure = next((n for n, action in enumerate(reversed(trace)) if not isinstance(action, Emit)), len(trace))
        lost = data.draw(st.integers(0, unsure))
        self.life = self.life.reborn(len(self.life.journal) - lost)
        self.spoken = ""
        self.feed(Begin("w"))

    @invariant()
    def it_waits_for_something(self) -> None:
        if hasattr(self, "life") and not self.life.over:
            machine = self.life.machine
            assert machine.state.asking or machine.deadline is not None, "the run waits for nothing"

    def teardown(self) -> None:
        if not hasattr(self, "life"):
            return
        check(self.life)
        assert not any(event.TYPE in TERMINAL for event in self.life.events), "the driver writes the end, not the core"


AnyLife.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestAnyLife = pytest.mark.requirement("RUN-04", "CITE-05", "CITE-10")(AnyLife.TestCase)
