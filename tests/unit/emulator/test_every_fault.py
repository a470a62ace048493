"""EMU-04, enumerated: each fault that WIRE 8 lists, and each defect of FEAT D4 that a provider can show, has a switch.

What D4 lists beside them is no provider's doing (killed workers, two owners, tool results) or a client's (options in
mid-word, custom ids twice): the fault shelf, the simulator and contract tests play those.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from workers.emulator import EmulatorConfig
from workers.emulator.batch import BatchConfig, BatchRule
from workers.emulator.batch.faults import GUIDE as BATCH_GUIDE
from workers.emulator.batch.faults import parse_batch_faults
from workers.emulator.batch.schedule import read_plan
from workers.emulator.faults import GUIDE as CHAT_GUIDE
from workers.emulator.faults import parse_faults
from workers.emulator.scenes import Rule
from workers.emulator.speech import SpeechConfig
from workers.emulator.speech.config import SpeechRule
from workers.emulator.speech.faults import GUIDE as SPEECH_GUIDE
from workers.emulator.speech.faults import parse_speech_faults

pytestmark = pytest.mark.requirement("EMU-04")

CHAT: Mapping[str, tuple[str, ...]] = {
    "WIRE 8: 429": ("429",),
    "WIRE 8: 429 with a Retry-After": ("429", "retry_after=7"),
    "WIRE 8: 500": ("500",),
    "WIRE 8: 502": ("502",),
    "WIRE 8: 503 (DEPLOYMENT_SCALING_UP)": ("503scaling",),
    "WIRE 8: 504": ("504",),
    "WIRE 8: 520": ("520",),
    "WIRE 8: every error shape": tuple(f"error_shape=E{number}" for number in range(1, 7)),
    "WIRE 8: missing key, wrong key": ("401", "403"),
    "WIRE 8: slow first token": ("slow_first_token=2",),
    "WIRE 8: mid-stream error event": ("stream_error_after=3", "stream_error_event_after=3"),
    "WIRE 8: cut without [DONE]": ("cut_after=3", "no_done"),
    "WIRE 8: empty choices chunk": ("empty_choices",),
    "WIRE 8: comment and heartbeat lines": ("comments", "event_ping"),
    "WIRE 8: chunk split inside UTF-8": ("split_utf8",),
    "WIRE 8: invalid tool JSON": ("bad_tool_json",),
    "D4: split id and name deltas": ("id_name_split",),
    "D4: two calls in one delta": ("two_calls_one_delta",),
    "D4: index starting at 1": ("index_from_1",),
    "D4: empty arguments": ("empty_arguments",),
    "D4: bad JSON": ("bad_tool_json", "json_body_truncated"),
    "D4: text plus calls": ("text_and_call",),
    "D4: a call as JSON in the content": ("call_as_content",),
    "D4: finish length inside arguments": ("bad_tool_json", "finish_reason=length"),
    "D4: an unknown name": ("unknown_tool",),
    "D4: null content": ("finish_reason=content_filter", "no_finish"),
    "D4: truncation": ("finish_reason=length",),
}
SPEECH: Mapping[str, tuple[str, ...]] = {
    "WIRE 8: abrupt close 1006": ("drop_after=100",),
    "WIRE 8: close 1011, 1012": ("close_after=100", "code=1012"),
    "WIRE 8: stalled server; D4: no message for 60 s": ("stall_after=0",),
    "WIRE 8: rewrite of finalised-looking text": ("rewrite_final_after=100",),
    "WIRE 8: id jump": ("id_jump_after=100",),
    "WIRE 8: out-of-order ids": ("unordered",),
    "WIRE 8: duplicate message": ("duplicate",),
    "WIRE 8: an error, then close 1011": ("error_after=100",),
    "WIRE 8: an error that is a string": ("error_after=100", "string_error"),
    "WIRE 8: 401 on the upgrade": ("401",),
    "D4: ids as text": ("string_ids",),
    "D4: words missing": ("no_words",),
    "D4: words revised shorter": ("shorter_after=0",),
    "D4: empty newest segment": ("empty_after=0",),
    "D4: echo without close": ("no_close",),
    "D4: close without echo": ("no_echo",),
    "D4: refused connect": ("refuse",),
    "D4: 503 handshake": ("503",),
    "D4: close 1000, 1001": ("close_after=100", "code=1001"),
    "D4: send on a dying socket": ("deaf_after=100",),
    "D4: malformed and unknown messages": ("malformed_after=0", "unknown_after=0"),
}
BATCH: Mapping[str, tuple[str, ...]] = {
    "WIRE 8: dataset READY late": ("slow_ready=30",),
    "WIRE 8: too large": ("413",),
    "WIRE 8: an expired signed URL": ("expired", "url_expires=1"),
    "WIRE 8: failed validation": ("fail_job=INVALID_ARGUMENT", "bad_upload"),
    "WIRE 8: per-row failure": ("fail_rows=1", "fail_code=SERVER_ERROR"),
    "WIRE 8: expiry with what was done; D4: expired with partial output": ("expire_after=60", "rows_done=50%"),
    "WIRE 8: a missing row; D4: missing custom_id": ("miss_rows=1",),
    "D4: a state that nobody knows": ("states=VALIDATING:1/JOB_STATE_OF_TOMORROW:1/COMPLETED",),
    "D4: exampleCount and duplicates refused, 409": ("400", "409"),
    "D4: duplicated custom_id": ("double_rows=1",),
    "D4: an id in both files": ("both_rows=1",),
    "D4: a corrupt line": ("corrupt_rows=1",),
    "D4: errors that are null": ("null_error",),
    "D4: path-prefixed names containing error": ("error_path",),
    "D4: the URL expires, or the line breaks, in mid-download": ("url_expires=1", "download_cut=100"),
    "D4: create times out after acceptance": ("late", "stall"),
    "D4: a 404 for the output; completed before it is visible": ("output_after=1000000",),
    "D4: pending for ever": ("stuck=PENDING",),
}
ALL: list[tuple[str, Callable[[Iterable[str]], Any], tuple[str, ...]]] = [
    *((f"chat, {name}", parse_faults, specs) for name, specs in CHAT.items()),
    *((f"speech, {name}", parse_speech_faults, specs) for name, specs in SPEECH.items()),
    *((f"batch, {name}", parse_batch_faults, specs) for name, specs in BATCH.items()),
]


@pytest.mark.parametrize(("parse", "specs"), [row[1:] for row in ALL], ids=[row[0] for row in ALL])
def test_each_has_a_switch_for_a_request(parse: Callable[[Iterable[str]], Any], specs: tuple[str, ...]) -> None:
    for spec in specs:
        assert parse([spec]) != parse([]), f"{spec} does nothing"


def test_each_can_be_written_in_a_script() -> None:
    for specs in CHAT.values():
        assert Rule.model_validate({"reply": {"text": "x"}, "faults": list(specs)}).faults
    for specs in SPEECH.values():
        assert SpeechRule(faults=specs).faults == specs
    for specs in BATCH.values():
        assert BatchRule(faults=specs).faults == specs


STATES = (
    "UNSPECIFIED CREATING RUNNING COMPLETED FAILED CANCELLED DELETING WRITING_RESULTS VALIDATING "
    "DELETING_CLEANING_UP PENDING EXPIRED RE_QUEUEING CREATING_INPUT_DATASET IDLE CANCELLING EARLY_STOPPED PAUSED "
    "DELETED ARCHIVED"
)


@pytest.mark.parametrize("state", [*STATES.split(), "OF_TOMORROW"])
def test_a_job_may_be_in_any_state(state: str) -> None:
    assert parse_batch_faults([f"stuck={state}"]).stuck


def test_what_wire_8_makes_a_switch_of_the_server_is_one() -> None:
    """A setting of a server, not of a request: the two shapes of a validation error, how ids are told, and so on."""
    EmulatorConfig(validation_status=422, stream_required_above=None, accepted_keys=frozenset({"k"}))
    SpeechConfig(ids="string", lists="all", words="none", errors="string", checkpoint="full", close_after_final_s=None)
    SpeechConfig(clear_restarts_ids=False, split_every=1, withdraw_every=1)
    BatchConfig(ready_after_s=9, cancel=True, cleanup_s=9, strict_urls=False, too_large_status=413, error_code="status")
    assert read_plan("VALIDATING:60/COMPLETED")


def test_the_guides_name_nothing_twice_and_explain_everything() -> None:
    for guide in (CHAT_GUIDE, SPEECH_GUIDE, BATCH_GUIDE):
        assert all(text for text in guide.values())
