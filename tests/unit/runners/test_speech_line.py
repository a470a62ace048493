"""The order of what goes out on one connection, whichever way it goes."""

import pytest

from tests.waiting import idle
from workers.adapters.memory.speech import MemorySpeech
from workers.core.stt.acts import Connect
from workers.runners.speech_line import Line


@pytest.mark.requirement("STT-02")
async def test_what_is_offered_does_not_overtake_what_waits() -> None:
    speech = MemorySpeech()
    line = Line(Connect(1, [], None), speech, lambda: 0.5, lambda fact: None)
    line.send("before it is open")
    await idle()
    far = speech.lines[-1]
    far.stall()
    line.send("while it takes nothing")
    await idle()
    far.resume()
    line.send("before the first goes on")
    await idle()
    assert far.sent == ["before it is open", "while it takes nothing", "before the first goes on"]
    line.stop()
    await idle()
