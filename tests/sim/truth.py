"""What must be true of every world when its story is over, whatever went wrong in it."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api_contracts.runs import Event
from tests.sim import speeches, talks
from tests.sim.files import HEARD
from tests.sim.outside import CITED, ELSEWHERE, HERE, answer_of
from tests.sim.world import World
from workers.core.chat.calls import first_of
from workers.core.chat.cancelling import CANCEL
from workers.ports import RunRecord

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
        *world.follower.faults(events),
        *_journal(events),
        *_letters(events),
        *_patience(events),
        *_calls(events),
        *_told(events),
        *_effects(world, events),
        *await _end(world, run_id, events),
        *(await talks.faults(world, run_id) if world.scenario.talks else ()),
    ]


def _journal(events: Sequence[Event]) -> list[str]:
    """Dense, in order, one end, and that last; each life begins with one event."""
    wrong = []
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        wrong.append("the journal has holes")
    epochs = [event.epoch for event in events]
    if epochs != sorted(epochs):
        wrong.append(f"epochs go back: {epochs}")
    for end, after in itertools.pairwise(events):
        if end.type in _ENDS and not (after.type == "run.resumed" and after.data.get("by")):
            wrong.append(f"{after.type} after the end")
    begun = Counter(event.epoch for event in events if event.type in ("run.started", "run.resumed"))
    if any(times > 1 for times in begun.values()):
        wrong.append(f"a life began twice: {begun}")
    return wrong


def _patience(events: Sequence[Event]) -> list[str]:
    """No life asks the model again before the time that an earlier one was told, but by an operator's word."""
    wrong, not_before = [], 0.0
    for event in events:
        if event.type == "chat.replaced":
            not_before = event.data.get("retry_at") or 0.0
        elif event.type == "run.resumed" and event.data.get("by"):
            not_before = 0.0
        elif event.type == "chat.requested" and event.at < not_before * 1000 - 1:
            wrong.append(f"the model was asked {not_before - event.at / 1000:.1f} s too soon")
    return wrong


def _letters(events: Sequence[Event]) -> list[str]:
    """What one life decided about a letter, no later one decides again."""
    lives: dict[str, int] = {}
    return [
        f"the letter {letter} was decided in lives {lives[letter]} and {event.epoch}"
        for event in events
        if (letter := event.data.get("inbox")) and lives.setdefault(letter, event.epoch) != event.epoch
    ]


def _calls(events: Sequence[Event]) -> list[str]:
    """A call is reserved once, settles once, nothing leaves a settled state; what is waited for holds all up."""
    wrong, open_calls, settled, behind = [], set[str](), set[str](), set[str]()
    for event in events:
        call_id = str(event.data.get("call_id"))
        if event.type == "tool.call_reserved":
            if call_id in open_calls | settled:
                wrong.append(f"{call_id} was reserved twice")
            open_calls.add(call_id)
            behind |= {call_id} if event.data.get("wait") is False else set()
        elif event.type in _SETTLES:
            if call_id not in open_calls:
                wrong.append(f"{call_id}: {event.type} of a call that is not open")
            open_calls.discard(call_id)
            settled.add(call_id)
        elif event.type in ("chat.requested", "tool.batch_joined") and open_calls - behind:
            wrong.append(f"{event.type} while {open_calls - behind} are open")
    return wrong


def _told(events: Sequence[Event]) -> list[str]:
    """A run completes with no call in the background, and asks once more after the last of them, if not interrupted."""
    if not events or events[-1].type != "run.completed" or events[-1].data["result"].get("interrupted"):
        return []
    behind = {e.data["call_id"] for e in events if e.type == "tool.call_reserved" and e.data.get("wait") is False}
    ends = {e.data["call_id"]: e.seq for e in events if e.type in _SETTLES and e.data["call_id"] in behind}
    last = max((e.seq for e in events if e.type == "chat.requested"), default=0)
    wrong = [f"{call} was not over when the run completed" for call in behind - ends.keys()]
    by_model = [e for e in events if str(e.data.get("by")).startswith("call ") and e.data["call_id"] not in behind]
    wrong += [f"{each.data['call_id']} was waited for, and cancelled by {each.data['by']}" for each in by_model]
    return wrong + [f"nobody told the model what came of {call}" for call, seq in ends.items() if seq > last]


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
        for tool in told.keys() - {CANCEL}
        if told[tool] > sum(times for (name, _), times in done.items() if name == tool)
    ]
    return wrong


def _wanted(world: World, tool: str) -> int:
    return sum(list(each).count(tool) for each in world.scenario.rounds)


async def _end(world: World, run_id: str, events: Sequence[Event]) -> list[str]:
    """The run ended, SQL, journal and Celery agree about it, and it says what the tools said."""
    record = await world.archive.load(run_id)
    if world.forgot and not events and record is not None:
        status: str = record.status
    elif not events or events[-1].type not in _ENDS:
        return [f"the run is lost: {[event.type for event in events][-3:]}"]
    else:
        status = _ENDS[events[-1].type]
    wrong = _agreement(world, run_id, events, record, status)
    if record is None or wrong:
        return wrong
    if world.forgot and (record.result.get("failure") or {}).get("code") == "journal_lost":
        return wrong
    if status not in world.scenario.ends and not (world.forgot and world.scenario.kind == "stt"):
        wrong.append(f"it {status}: {record.result.get('failure')}")
    elif status == "completed":
        wrong += _result(world, run_id, events, record.result)
    return wrong


def _agreement(world: World, run_id: str, events: Sequence[Event], record: RunRecord | None, status: str) -> list[str]:
    """SQL, the journal and Celery say the same. What Celery had been told when Redis was wiped is gone."""
    wrong = []
    if record is None or record.status != status or (events and record.result != events[-1].data.get("result")):
        wrong.append(f"SQL says {record and record.status}, the journal {status}")
    if events and not world.store._runs[run_id].announced:
        wrong.append("the end was never announced")
    states = world.celery.states.get(run_id, [])
    ends = [state for state in states if state in _ENDS.values()]
    agrees = states and states[-1] == status and (_was_reopened(events) or not set(ends) - {status})
    if not agrees and (states or not world.forgot):
        wrong.append(f"Celery was told {states}, the end is {status}")
    return wrong


def _was_reopened(events: Sequence[Event]) -> bool:
    return any(event.type == "run.resumed" and event.data.get("by") for event in events)


def _result(world: World, run_id: str, events: Sequence[Event], result: Mapping[str, Any]) -> list[str]:
    match world.scenario.kind:
        case "batch":
            return world.plane.faults(run_id, dict(result))
        case "stt":
            # What was said before Redis was wiped is gone with it.
            if world.forgot:
                return []
            faults = speeches.faults_of(events, dict(result), world.scenario.words)
            return faults + (speeches.faults_of_changes(world) if world.scenario.changes else [])
        case "stt_file":
            return [] if result["text"] == HEARD else [f"the file says {result['text']!r}"]
        case "cite":
            return [] if result["text"] == CITED else [f"it was answered {result['text']!r}"]
        case _:
            return _answer(world, result)


def _answer(world: World, result: Mapping[str, Any]) -> list[str]:
    """Every call is in the ledger, and only those that may be in doubt are."""
    interrupted = "interrupt" in {kind for _, kind in world.scenario.signals}
    calls = list({first_of(call["call_id"]): call for call in result["tool_calls"]}.values())  # the last tries
    wanted = sorted(tool for each in world.scenario.rounds for tool in each if tool != CANCEL)
    calls = [call for call in calls if call["name"] != CANCEL]
    if "update_settings" in {kind for _, kind in world.scenario.signals} and len(calls) < len(wanted):
        wanted.remove("note")  # the letter came too late for the round that wants it
    if sorted(call["name"] for call in calls) != wanted and not result.get("interrupted"):
        return [f"the ledger has {[call['name'] for call in calls]} for {wanted}"]
    wrong = []
    for call in calls:
        in_doubt = call["state"] == "outcome_unknown" and call["effect"] == "at_most_once"
        # Its deadline passed: messages were lost, or two of the faults that last took all the time that a tool has.
        outages = sum(kind in ("redis-away", "sql-away", "pause") for kind in world.plan.faults.values())
        too_late = call["state"] == "timed_out" and (world.plan.lossy or outages > 1)
        if interrupted and call["state"] == "cancelled" and call["effect"] == "pure":
            continue
        if world.scenario.gives_up and call["name"] == "charge" and call["state"] == "outcome_unknown":
            continue
        right = call["state"] == "succeeded" and call["content"] == answer_of(call["name"])
        if not (right or ((in_doubt or too_late) and (world.plan.faults or world.plan.lossy))):
            wrong.append(f"{call['name']} ended as {call['state']}: {call['content']}")
    return wrong
