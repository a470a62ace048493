"""What a journal must look like whatever happened to its writers, and what the tests read in one."""

from collections.abc import Iterable, Sequence

from api_contracts.runs import Event


def is_right(events: Sequence[Event]) -> bool:
    """Whether the journal of a finished run is dense, its epochs rise with its lives, and it ends once."""
    seqs = [event.seq for event in events]
    epochs = [event.epoch for event in events]
    lives = [event.epoch for event in events if event.type in ("run.started", "run.resumed")]
    assert seqs == list(range(1, len(seqs) + 1)), seqs
    assert epochs == sorted(epochs), epochs
    assert lives == sorted(set(lives)), f"two lives under one epoch: {lives}"
    assert set(epochs) <= {0, *lives}, f"words without a life: {epochs}"
    assert [event.terminal for event in events] == [False] * (len(events) - 1) + [True], types(events)
    return True


def types(events: Iterable[Event]) -> list[str]:
    """Return the types, in order."""
    return [event.type for event in events]


def of_type(events: Iterable[Event], kind: str) -> list[Event]:
    """Return the events of one type."""
    return [event for event in events if event.type == kind]


def lives(events: Iterable[Event]) -> list[int]:
    """Return the process ids of the run's owners, in order."""
    return [int(event.data["owner"].split(":")[1]) for event in events if "owner" in event.data]


def streamed(events: Sequence[Event]) -> str:
    """Return the text that a follower saw of the last attempt."""
    last = max(event.data["attempt"] for event in of_type(events, "chat.requested"))
    return "".join(e.data["text"] for e in of_type(events, "chat.delta") if e.data["attempt"] == last)
