"""What `runs list` says of a run, and what its options mean."""

import pytest

from workers.cli.exits import Exit, Stop
from workers.cli.listing import plain, since_of, span, told, wanted_of
from workers.ports.register import RunLine

pytestmark = pytest.mark.requirement("RUN-18")

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            RunLine("r", "chat", "running", owner="chat@a:7#1", lease_s=7.25, last="chat.delta", last_at=NOW - 0.5),
            "chat@a:7#1, lease ends in 7.2 s, chat.delta 0.5 s ago",
        ),
        (
            RunLine("r", "batch", "parked", why="the provider works", look_s=185),
            "the provider works; waits until a signal, or in 3 m 5 s",
        ),
        (RunLine("r", "chat", "queued", look_s=30), "waits for a worker; looked at again in 30 s"),
        (RunLine("r", "chat", "queued", look_s=-1), "waits for a worker; due now"),
        (
            RunLine("r", "chat", "queued", owner="ann", lease_s=-12, deaths=2),
            "waits for a worker; lost by ann, its lease ended 12 s ago; 2 owners lost in a row",
        ),
        (RunLine("r", "chat", "failed", why="provider_overloaded"), "provider_overloaded"),
        (RunLine("r", "chat", "completed"), ""),
    ],
)
def test_a_line_says_who_has_a_run_why_it_waits_and_what_it_came_to(line: RunLine, said: str) -> None:
    assert told(line, NOW) == said


def test_a_line_for_programs_leaves_out_what_is_not_known() -> None:
    shown = plain(RunLine("r", "chat", "queued", labels={"team": "a"}, lane="background"))
    assert shown["labels"] == {"team": "a"}
    assert (shown["run_id"], shown["lane"], shown["deaths"], shown["announced"]) == ("r", "background", 0, False)
    assert not {"owner", "lease_s", "look_s", "ended_at", "why"} & set(shown)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.5, "9.5 s"), (59.6, "1 m"), (3600, "1 h"), (90061, "1 d 1 h"), (-75, "-1 m 15 s")],
)
def test_spans_of_time_are_short(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - 90),
        ("2h", NOW - 7200),
        ("7d", NOW - 604_800),
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_since_is_a_span_or_a_time(text: str, at: float) -> None:
    assert since_of(text, NOW) == at


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"status": ["lost"]}, "--status is one of queued, running, parked"),
        ({"kind": "video"}, "--kind is one of chat"),
        ({"lane": "fast"}, "--lane is one of interactive, background"),
        ({"label": ["team"]}, "--label is name=value"),
        ({"since": "yesterday"}, "--since is a span such as"),
    ],
)
def test_an_option_that_makes_no_sense_says_what_would(options: dict[str, object], word: str) -> None:
    given = {"status": [], "kind": "", "lane": "", "tenant": "", "label": [], "since": ""} | options
    with pytest.raises(Stop, match=word) as stop:
        wanted_of(**given)  # type: ignore[arg-type]
    assert stop.value.code is Exit.USAGE
