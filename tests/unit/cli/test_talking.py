"""What `chat` refuses before anything is sent: one line, and the exit code of a wrong command line."""

import io
from typing import Any

import pytest
from rich.console import Console

from api_contracts.chat import CallFailed, CallOutcomeUnknown, CallReserved, CallTimedOut
from api_contracts.runs import Event, EventData, RunParked
from workers.cli.exits import Exit, Stop
from workers.cli.talking import Asked, Voice, talk


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tools": ["no.such.module:f"]}, "--tool no.such.module:f: ModuleNotFoundError"),
        ({"tools": ["json:nothing"]}, "--tool json:nothing: AttributeError"),
        ({"tools": ["json:__doc__"]}, "--tool json:__doc__: it is no function"),
        ({"tools": ["json:dumps"]}, "parameter"),
        ({"tools": ["a b"]}, "tools.0"),
        ({"images": ["/no/such/file.png"]}, "--image /no/such/file.png: "),
        ({"images": [__file__]}, "these bytes are no picture"),
        ({"images": ["ftp://a/b.png"]}, "--image ftp://a/b.png: "),
        ({"model": ""}, "model: "),
    ],
)
def test_what_is_wrong_with_the_command_line_is_one_line(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Stop) as caught:
        talk(Asked(**{"text": "hello", "model": "m"} | given), as_json=False)
    assert caught.value.code is Exit.USAGE
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_becomes_of_calls_is_said_as_it_happens() -> None:
    said = io.StringIO()
    voice = Voice(Console(file=said, width=200), "run-1")
    call: dict[str, Any] = {"provider_id": "c", "name": "pay", "arguments": "{}", "effect": "keyed", "where": "task"}
    told: list[EventData] = [
        CallReserved(call_id="1.0", deadline_at=0.0, approval=True, **call),
        RunParked(why="a call waits for approval"),
        CallFailed(call_id="1.0", content="The tool failed.", detail="no money"),
        CallTimedOut(call_id="1.0", content="x"),
        CallOutcomeUnknown(call_id="1.0", content="x"),
    ]
    for number, each in enumerate(told, 1):
        voice.say(Event(seq=number, type=each.TYPE, at=0, epoch=1, data=each.model_dump(mode="json")))
    assert said.getvalue().splitlines() == [
        "-> pay({})",
        "   waits until somebody says: fireworks-workers runs approve run-1 1.0",
        "waits: a call waits for approval",
        "<- pay: failed: The tool failed. [no money]",
        "<- pay: did not answer in time",
        "<- pay: nobody knows whether it took effect; it is not repeated",
    ]
