"""When a session wants to be woken: never later than anything is due, whatever is not reckoned anew."""

import pytest

from api_contracts.stt import SttRequest
from workers.core.runs.frame import Begin, Woke
from workers.core.stt.acts import AudioArrived, Connected, Said, SendText
from workers.core.stt.session import SttSession
from workers.core.stt.waiting import USAGE_EVERY_S

NOW = 1_700_000_000.0
CHUNK_S = 0.05
CHUNK = bytes(1600)


def begun(**fields: object) -> SttSession:
    session = SttSession("run-1", SttRequest.model_validate(fields), NOW)
    session.receive(Begin("ann"), NOW)
    session.receive(Connected(1), NOW)
    return session


def entry(now: float) -> str:
    return f"{round(now * 1000)}-0"


def test_audio_after_a_silence_brings_the_report_of_the_meters_nearer() -> None:
    session = begun(keep_alive_s=3600, idle_timeout_s=3600)
    later = NOW + USAGE_EVERY_S
    session.receive(Woke(), later)
    assert session.deadline is not None
    assert session.deadline > later + USAGE_EVERY_S
    session.receive(AudioArrived(entry(later), CHUNK), later)
    assert session.deadline == later + USAGE_EVERY_S


@pytest.mark.requirement("STT-13")
@pytest.mark.parametrize("echoes", [True, False])
def test_no_deadline_is_told_too_late(echoes: bool) -> None:
    session = begun(stall_timeout_s=2, keep_alive_s=3, idle_timeout_s=5, text_timeout_s=1)
    for number in range(300):
        now = NOW + number * CHUNK_S
        for act in session.receive(AudioArrived(entry(now), CHUNK), now):
            if echoes and isinstance(act, SendText):
                session.receive(Said(1, {"object": "stt.output.trace", "trace_id": act.message["trace_id"]}), now)
        told, due = session.deadline, session._soonest()
        assert told is not None
        assert due is not None
        assert told <= due
        if now >= told:
            session.receive(Woke(), now)
            assert session.deadline == session._soonest()
