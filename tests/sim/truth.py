"""What must be true of every world when its story is over, whatever went wrong in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api_contracts.runs import Event
from tests.sim import speeches
from tests.sim.outside import ELSEWHERE, HERE, answer_of
from tests.sim.world import World

_SETTLES: Final = {
    "tool.call_result": "succeeded", "tool.call_failed": "failed", "tool.call_cancelled": "cancelled",
    "tool.call_timed_out": "timed_out", "tool.call_outcome_unknown": "outcome_unknown",
}  # fmt: skip
_ENDS: Final = {"run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled"}


async def faults_in(world: World, run_id: str) -> list[str]:
    """Return what is wrong, a line each; an empty list is a good world."""
    events = await world.store.read(run_id)
    return [
        *world.found,
        *_journal(events),
        *_calls(events),
        *_effects(world, events),
        *await _end(world, run_id, events),
    ]


def _journal(events: Sequence[Event]) -> list[str]:
    """Dense, in order, one end, and that last; each life begins with one event."""
    wrong = []
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        wrong.append("the journal has holes")
    epochs = [event.epoch for event in events]
    if epochs != sorted(epochs):
        wrong.append(f"epochs go back: {epochs}")
    if sum(event.type in _ENDS for event in events) > 1:
        wrong.append("the run ended twice")
    begun = Counter(event.epoch for event in events if event.type in ("run.started", "run.resumed"))
    if any(times > 1 for times in begun.values()):
        wrong.append(f"a life began twice: {begun}")
    return wrong


def _calls(events: Sequence[Event]) -> list[str]:
    """A call is reserved once, settles once, and nothing leaves a settled state."""
    wrong, open_calls, settled = [], set[str](), set[str]()
    for event in events:
        call_id = str(event.data.get("call_id"))
        if event.type == "tool.call_reserved":
            if call_id in open_calls | settled:
                wrong.append(f"{call_id} was reserved twice")
            open_calls.add(call_id)
        elif event.type in _SETTLES:
            if call_id not in open_calls:
                wrong.append(f"{call_id}: {event.type} of a call that is not open")
            open_calls.discard(call_id)
            settled.add(call_id)
        elif event.type in ("chat.requested", "tool.batch_joined") and open_calls:
            wrong.append(f"{event.type} while {open_calls} are open")
    return wrong


def _effects(world: World, events: Sequence[Event]) -> list[str]:
    """A keyed or guarded effect happened once at most; what was told to be done, was done."""
    wrong, done, begun = [], world.effects.done, world.effects.begun
    once = {tool for tool, effect in (HERE | ELSEWHERE).items() if effect in ("keyed", "at_most_once")}
    keys = Counter(tool for tool, _ in begun)
    wrong += [f"{tool} under {keys[tool]} keys" for tool in keys if keys[tool] > _wanted(world, tool)]
    wrong += [f"{key} took effect {times} times" for key, times in done.items() if key[0] in once and times > 1]
    wrong += [f"{key} began {times} times" for key, times in begun.items() if key[0] == "fire" and times > 1]
    names = {e.data["call_id"]: e.data["name"] for e in events if e.type == "tool.call_reserved"}
    told = Counter(names[e.data["call_id"]] for e in events if e.type == "tool.call_result")
    wrong += [
        f"{tool}: {told[tool]} results, {sum(n for (name, _), n in done.items() if name == tool)} effects"
        for tool in told
        if told[tool] > sum(times for (name, _), times in done.items() if name == tool)
    ]
    return wrong


def _wanted(world: World, tool: str) -> int:
    return sum(list(each).count(tool) for each in world.scenario.rounds)


async def _end(world: World, run_id: str, events: Sequence[Event]) -> list[str]:
    """The run ended, SQL, journal and Celery agree about it, and it says what the tools said."""
    if not events or events[-1].type not in _ENDS:
        return [f"the run is lost: {[event.type for event in events][-3:]}"]
    status, record = _ENDS[events[-1].type], await world.archive.load(run_id)
    states = world.celery.states.get(run_id, [])
    wrong = []
    if record is None or record.status != status or record.result != events[-1].data.get("result"):
        wrong.append(f"SQL says {record and record.status}, the journal {status}")
    if not world.store._runs[run_id].announced:
        wrong.append("the end was never announced")
    if not states or states[-1] != status or (set(states) & set(_ENDS.values())) - {status}:
        wrong.append(f"Celery was told {states}, the end is {status}")
    allowed = {"completed"} if world.scenario.cancel_after_s is None else {"completed", "cancelled"}
    if status not in allowed:
        wrong.append(f"it {status}: {events[-1].data}")
    elif status == "completed" and record is not None:
        wrong += _result(world, run_id, events, record.result)
    return wrong


def _result(world: World, run_id: str, events: Sequence[Event], result: Mapping[str, Any]) -> list[str]:
    match world.scenario.kind:
        case "batch":
            return world.plane.faults(run_id, dict(result))
        case "stt":
            return speeches.faults_of(events, dict(result), world.scenario.words)
        case _:
            return _answer(world, result)


def _answer(world: World, result: Mapping[str, Any]) -> list[str]:
    """Every call is in the ledger, and only those that may be in doubt are."""
    calls = result["tool_calls"]
    wanted = sorted(tool for each in world.scenario.rounds for tool in each)
    if sorted(call["name"] for call in calls) != wanted:
        return [f"the ledger has {[call['name'] for call in calls]} for {wanted}"]
    wrong = []
    for call in calls:
        in_doubt = call["state"] == "outcome_unknown" and call["effect"] == "at_most_once"
        too_late = call["state"] == "timed_out" and world.plan.lossy  # its deadline passed while messages were lost
        right = call["state"] == "succeeded" and call["content"] == answer_of(call["name"])
        if not (right or ((in_doubt or too_late) and (world.plan.faults or world.plan.lossy))):
            wrong.append(f"{call['name']} ended as {call['state']}: {call['content']}")
    return wrong
