"""Conversations in the simulated world: two turns at once, and what must be true of both and of what they leave."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from workers.core.runs.turns import ConversationKey

if TYPE_CHECKING:
    from tests.sim.world import World

NAME: Final = "order-17"
KEY: Final = ConversationKey("default", NAME)


def rival_of(run_id: str) -> str:
    """Return the other turn's run."""
    return f"{run_id}-rival"


def part(*, summarised: bool) -> dict[str, Any]:
    """Return how a turn takes part: where it is to be summarised, whoever comes second does that first."""
    changed = {"summaries": {"at_tokens": 100, "keep": 0}} if summarised else {}
    return {"conversation": {"id": NAME, "settings": changed}}


def asked(text: str, *, summarised: bool) -> list[dict[str, Any]]:
    """Return the message of a turn, long enough to be summarised."""
    return [{"role": "user", "content": text + " on and on" * (80 if summarised else 0)}]


def rival(*, summarised: bool) -> dict[str, Any]:
    """Return what another producer asks in the same conversation at the same time."""
    return {"model": "m", "messages": asked("and I", summarised=summarised)} | part(summarised=summarised)


def mixed(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where the model is shown less or more of another turn than the whole of it."""
    messages = [each for each in messages if not is_of_tools(each)]
    asked = [(place, each) for place, each in enumerate(messages) if each["role"] == "user" and not is_news(each)]
    places = [place for place, each in asked if not _is_summary(each)]
    broken = [place for place in places[1:] if not _ends_a_turn(messages[place - 1])]
    return [f"a turn began before the end of another: {[each['role'] for each in messages]}"] if broken else []


def _ends_a_turn(message: Mapping[str, Any]) -> bool:
    return _is_summary(message) or (message["role"] == "assistant" and not message.get("tool_calls"))


def is_news(message: Mapping[str, Any]) -> bool:
    """Whether it tells what came of a call in the background, or how the tools changed."""
    return message["role"] == "user" and str(message["content"]).startswith("News of ")


def is_of_tools(message: Mapping[str, Any]) -> bool:
    """Whether it tells how the tools changed."""
    return is_news(message) and str(message["content"]).startswith("News of the tools: ")


def _is_summary(message: Mapping[str, Any]) -> bool:
    return message["role"] == "user" and str(message["content"]).startswith("Summary of the conversation")


async def faults(world: "World", run_id: str) -> list[str]:
    """Both runs ended, and each that completed has left one version, whole, in the order of the versions."""
    runs = (run_id, rival_of(run_id))
    records = [await world.archive.load(each) for each in runs]
    if None in records:
        return [f"of {runs} SQL has {[record and record.status for record in records]}"]
    wrong = [
        f"{each} was never announced" for each in runs if each in world.store._runs and not _is_announced(world, each)
    ]
    talk = world.archive.conversations.talks.get(KEY)
    commits = talk.commits if talk else []
    if (summaries := sum(commit.kind == "summary" for commit in commits)) > world.scenario.summarised:
        wrong.append(f"it was summarised {summaries} times")
    commits, versions = [commit for commit in commits if commit.kind != "summary"], [commit.base for commit in commits]
    completed = sorted(record.run_id for record in records if record and record.status == "completed")
    if sorted(commit.holder.run_id for commit in commits) != completed:
        wrong.append(f"{completed} completed, versions are of {[commit.holder.run_id for commit in commits]}")
    if versions != list(range(len(versions))):
        wrong.append(f"versions go on from {versions}")
    for commit in commits:
        said, record = (
            [m for m in commit.messages if not is_of_tools(m)],
            next(each for each in records if each and each.run_id == commit.holder.run_id),
        )
        if said[0]["role"] != "user" or [m["role"] for m in said].count("user") != 1 or not _ends_a_turn(said[-1]):
            wrong.append(f"a version is {[message['role'] for message in said]}")
        if record.result.get("message") != said[-1] or record.result.get("conversation_version") != commit.base + 1:
            wrong.append(f"version {commit.base + 1} is not what its run came to")
    lost = {"journal_lost"} if world.forgot else set()
    wrong += [
        f"{record.run_id} {record.status}: {record.result.get('failure')}" for record in records
        if record and record.status != "completed" and (record.result.get("failure") or {}).get("code") not in lost
    ]  # fmt: skip
    if talk and talk.holder is not None and not world.forgot:
        wrong.append(f"the conversation is {talk.holder}'s for ever")
    return wrong


def _is_announced(world: "World", run_id: str) -> bool:
    return world.store._runs[run_id].announced
