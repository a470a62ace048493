"""The crash table of `turn`: a worker may die after any event and after any effect, and the run goes on and ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts import chat
from api_contracts.chat import ChatRequest, Effect
from api_contracts.failure import Failure
from api_contracts.runs import RunStarted
from tests.unit.core.turns import (
    BUSY,
    SETTLES,
    T0,
    Life,
    World,
    begun,
    check,
    completed,
    kinds,
    local,
    remote,
    request,
    says,
    wants,
)
from workers.core.chat.acts import AskModel, CallSent, RunTool, SendCall
from workers.core.chat.assembler import Answer
from workers.core.chat.cards import ToolCard
from workers.core.runs.frame import Emit, Park, SignalArrived

EFFECTS: tuple[Effect, ...] = ("pure", "idempotent", "keyed", "at_most_once")


@dataclass(frozen=True)
class Scene:
    """A run as it would go if nobody died: what the model answers in each round, and what it fails with before."""

    rounds: Sequence[Answer]
    cards: Sequence[ToolCard] = ()
    asks: ChatRequest = field(default_factory=request)
    failures: int = 0
    silent: frozenset[str] = frozenset()

    def world(self) -> World:
        failing = iter(range(self.failures))

        def answer(round_: int, attempt: int) -> Answer | Failure:
            return self.rounds[round_] if next(failing, None) is None else BUSY

        return World(self.asks, self.cards, answer, self.silent)


HERE = [local(effect, effect) for effect in EFFECTS]
THERE = [remote(effect, effect) for effect in EFFECTS]
NUMBER = ToolCard("n", "", {"type": "object", "required": ["n"]}, "at_most_once", task="svc.n", queue="svc")
MIXED = [*HERE[:2], *THERE[2:]]

SCENES = {
    "plain": Scene([says()]),
    "failing": Scene([says()], failures=3),
    "failing over": Scene([wants(*EFFECTS), wants("pure"), says()], MIXED, request(model="", route=["a", "b"]), 3),
    **{f"{effect} here": Scene([wants(effect), says()], HERE) for effect in EFFECTS},
    **{f"{effect} there": Scene([wants(effect), says()], THERE) for effect in EFFECTS},
    "all here": Scene([wants(*EFFECTS, text="let me see"), says()], HERE),
    "all there": Scene([wants(*EFFECTS), wants(*EFFECTS), says()], THERE),
    "one by one": Scene([wants(*EFFECTS), says()], MIXED, request(parallel_tools=1)),
    "two by two": Scene([wants(*EFFECTS), wants("pure"), says()], THERE, request(parallel_tools=2)),
    "refused": Scene([wants("unknown", ("pure", "{"), "pure"), wants("unknown"), says()], HERE),
    "approved here": Scene([wants(*EFFECTS), says()], [replace(card, approval_s=1e6) for card in HERE]),
    "approved there": Scene([wants(*EFFECTS), says()], [replace(card, approval_s=1e6) for card in THERE]),
    "asked here": Scene([wants(*EFFECTS), says()], [replace(card, reconciles=True) for card in HERE]),
    "mended": Scene([wants(("n", "{}")), wants(("n", "{}"), ("n", '{"n": 1}')), says()], [NUMBER]),
    "over the limit": Scene([wants(*EFFECTS), says()], THERE, request(limits={"calls": 2})),
    "background here": Scene([wants(*EFFECTS), *[says()] * 5], [replace(card, wait=False) for card in HERE]),
    "background there": Scene([wants(*EFFECTS), *[says()] * 5], [replace(card, wait=False) for card in THERE]),
    "background mixed": Scene(
        [wants(*EFFECTS), wants("pure", "keyed"), *[says()] * 5],
        [HERE[0], replace(HERE[1], wait=False), replace(THERE[2], wait=False), THERE[3]],
    ),
    "background approved": Scene(
        [wants(*EFFECTS), *[says()] * 5], [replace(card, wait=False, approval_s=1e6) for card in MIXED]
    ),
    "background silent": Scene(
        [wants(*EFFECTS), *[says()] * 5], [replace(card, wait=False) for card in THERE], silent=frozenset(EFFECTS)
    ),
    "background at the last round": Scene(
        [wants(*EFFECTS), says()], [replace(card, wait=False) for card in MIXED], request(limits={"rounds": 2})
    ),
    "silent": Scene([wants(*EFFECTS), says()], THERE, silent=frozenset(EFFECTS)),
    "rounds exhausted": Scene([wants("pure"), wants("pure")], HERE, request(limits={"rounds": 2})),
}
ENDS = {"rounds exhausted": "failed"}


def check_world(scene: Scene, world: World, last: Life) -> None:
    """Fail if the lives together broke what holds for one run."""
    check(last)
    for message in (a for a in world.done if isinstance(a, AskModel)):
        assert message.attempt <= last.attempt
    classes = {card.name: card.effect for card in scene.cards}
    keys: dict[str, set[str]] = {}
    for action in world.done:
        if isinstance(action, RunTool | SendCall):
            key = action.key if isinstance(action, RunTool) else action.task_id
            keys.setdefault(action.call_id, set()).add(key)
    assert all(len(each) == 1 for each in keys.values()), "the same call had two keys"
    reserved = {e.call_id: e.name for e in last.events if isinstance(e, chat.CallReserved)}
    for call_id, times in begun(world.done).items():
        assert times == 1 or classes[reserved[call_id]] != "at_most_once", f"{call_id} took effect twice"


@pytest.mark.parametrize("name", SCENES)
def test_without_a_crash_every_scene_ends_in_one_life(name: str) -> None:
    scene, life = SCENES[name], SCENES[name].world().live()
    assert life.end is not None
    assert life.end.status == ENDS.get(name, "completed")
    if not (scene.silent or name in {"refused", "mended", "over the limit"}):
        assert set(life.ledger().values()) <= ({"succeeded"} if name not in ENDS else {"succeeded", "cancelled"})
    check_world(scene, scene.world(), life)


@pytest.mark.requirement("RUN-04", "TOOL-06", "TOOL-11", "TOOL-12")
@pytest.mark.parametrize("name", SCENES)
def test_a_worker_may_die_anywhere(name: str) -> None:
    scene = SCENES[name]
    whole = scene.world().live()
    for steps in range(len(whole.trace)):
        world = scene.world()
        world.live(steps)
        last = world.live()
        assert last.end is not None, f"the run stands still after {steps} steps"
        assert last.end.status == ENDS.get(name, "completed"), f"another end after {steps} steps"
        check_world(scene, world, last)


@pytest.mark.long
@pytest.mark.requirement("RUN-04", "TOOL-06", "TOOL-11", "TOOL-12")
@given(name=st.sampled_from(sorted(SCENES)), deaths=st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=250, deadline=None)
def test_workers_may_die_again_and_again(name: str, deaths: list[int]) -> None:
    scene = SCENES[name]
    world = scene.world()
    for steps in deaths:
        life = world.live(steps)
        if life.end:
            break
    else:
        life = world.live()
    assert life.end is not None
    assert life.end.status == ENDS.get(name, "completed")
    check_world(scene, world, life)


@pytest.mark.requirement("RUN-04")
@pytest.mark.parametrize("name", SCENES)
def test_what_is_in_the_journal_is_not_done_again(name: str) -> None:
    """Steps already committed: answers are not asked for again, settled calls not made again."""
    scene = SCENES[name]
    whole = scene.world().live()
    for steps in range(len(whole.trace)):
        world = scene.world()
        first = world.live(steps)
        settled = {e.call_id for e in first.events if isinstance(e, SETTLES)}
        second = world.live()
        if not name.startswith("background"):  # what comes while nobody has the run is told with the next question
            assert second.types.count("chat.message") == whole.types.count("chat.message")
        assert not settled & begun(second.trace).keys()


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_call_of_the_worker_that_was_running_is_run_again_unless_it_may_happen_only_once(effect: Effect) -> None:
    life = Life(request(), [local("act", effect)]).begin()
    life.answered(wants("act"))
    again = Life(request(), life.cards, journal=life.journal).begin()
    if effect == "at_most_once":
        assert kinds(again.trace)[:3] == ["run.resumed", "tool.call_outcome_unknown", "tool.batch_joined"]
        assert again.told() == ["It is not known whether the tool took effect; it was not repeated."]
    else:
        assert kinds(again.trace) == ["run.resumed", "RunTool"]
        assert again.last(RunTool) == life.last(RunTool), "the same arguments under the same key"
    check(again)


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_call_that_may_have_been_sent_is_sent_again_unless_it_may_happen_only_once(effect: Effect) -> None:
    life = Life(request(), [remote("act", effect)]).begin()
    life.answered(wants("act"))
    again = Life(request(), life.cards, journal=life.journal).begin()
    if effect == "at_most_once":
        assert kinds(again.trace) == ["run.resumed"]
        again.feed(again.letter("1.0", value="it was sent"))
        assert again.told() == ["it was sent"]
    else:
        assert kinds(again.trace) == ["run.resumed", "SendCall"]
        assert again.last(SendCall) == life.last(SendCall)
    check(again)


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_call_that_was_sent_is_waited_for(effect: Effect) -> None:
    life = Life(request(), [remote("act", effect)]).begin()
    life.answered(wants("act"))
    life.feed(CallSent("1.0"))
    again = Life(request(), life.cards, journal=life.journal, now=T0 + 20).begin()
    assert kinds(again.trace) == ["run.resumed"]
    again.at(again.machine.deadline or 0)
    assert again.last(Park).until == T0 + 60, "a crash gives a call no more time"


@pytest.mark.requirement("TOOL-05", "TOOL-11")
def test_what_had_not_begun_is_not_taken_for_begun() -> None:
    """Calls that waited for their turn are made, also those that may happen only once."""
    life = Life(request(parallel_tools=1), [remote("act", "at_most_once")]).begin()
    life.answered(wants("act", "act"))
    life.feed(CallSent("1.0"))
    again = Life(life.request, life.cards, journal=life.journal).begin()
    assert kinds(again.feed(again.letter("1.0", value=1)))[-1] == "SendCall"
    assert again.last(SendCall).call_id == "1.1"


@pytest.mark.requirement("TOOL-07", "TOOL-11")
def test_a_call_whose_deadline_passed_with_its_worker_is_not_begun_again() -> None:
    life = Life(request(), [local("look")]).begin()
    life.answered(wants("look"))
    again = Life(request(), life.cards, journal=life.journal, now=T0 + 61).begin()
    assert kinds(again.trace)[:3] == ["run.resumed", "tool.call_timed_out", "tool.batch_joined"]
    assert begun(again.trace) == Counter()


@pytest.mark.requirement("RUN-06", "TOOL-12")
def test_a_cancelled_successor_admits_that_a_call_may_have_been_sent() -> None:
    life = Life(request(), [remote("act", "at_most_once")]).begin()
    life.answered(wants("act"))
    again = Life(request(), life.cards, journal=life.journal).begin()
    again.feed(SignalArrived("1-0", "cancel", {}))
    assert again.ledger() == {"1.0": "outcome_unknown"}


@pytest.mark.requirement("RUN-04")
def test_a_run_that_answered_is_only_finished() -> None:
    life = Life(request()).begin()
    life.answered(says("done"))
    again = Life(request(), journal=life.journal, now=T0 + 9).begin()
    assert kinds(again.trace) == ["run.resumed", "Finish"]
    assert completed(again)
    assert again.result["message"] == life.result["message"]


@pytest.mark.requirement("RUN-04", "TOOL-06")
def test_a_run_that_was_out_of_rounds_never_asks_with_calls_left_open() -> None:
    life = Life(request(limits={"rounds": 1}), [local("look")]).begin()
    life.answered(wants("look"))
    again = Life(life.request, life.cards, journal=life.journal).begin()
    assert kinds(again.trace) == ["run.resumed", "Finish"]
    assert again.result["failure"]["code"] == "rounds_exhausted"


@pytest.mark.requirement("RUN-02")
def test_the_first_life_starts_and_each_later_one_resumes() -> None:
    life = Life(request()).begin()
    assert isinstance(life.trace[0], Emit)
    assert life.trace[0].event == RunStarted(owner="w")
    again = Life(request(), journal=life.journal).begin()
    assert again.types.count("run.started") == 1
    third = Life(request(), journal=again.journal).begin()
    assert third.types.count("run.resumed") == 2
    assert third.attempt == 3
