"""From the caller's words to the script and the message (`client.submission`)."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts import keys, names
from api_contracts.chat import ChatRequest
from api_contracts.client.scripts import SPILL_BYTES, SUBMIT, canonical, digest_of, signal_call
from api_contracts.client.settings import ClientSettings
from api_contracts.client.submission import Submission, checked, submission
from api_contracts.runs import RunQueued

QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SETTINGS = ClientSettings(redis_url="redis://nowhere", lost_message_s=7, live_ttl_s=60)


def submitted(run_id: str | None = None, settings: ClientSettings = SETTINGS, **fields: Any) -> Submission:
    return submission("chat", checked(ChatRequest, QUESTION, fields), run_id, settings)


def queued(made: Submission) -> RunQueued:
    return RunQueued.model_validate_json(str(made.script.args[2]))


def test_the_script_records_the_request_under_the_runs_keys() -> None:
    made = submitted("run-1", labels={"a": "b"}, lane="background")
    assert made.script.script == SUBMIT
    of_run = (keys.events("run-1"), keys.lease("run-1"), keys.due("1"), keys.blob("run-1", 0))
    assert made.script.keys == (*of_run, keys.waiting("1", made.queue))
    assert made.script.args == ("run-1", made.digest, queued(made).to_json(), "", 7000, 60_000, made.queue, "")
    event = queued(made)
    assert event.request == QUESTION | {"labels": {"a": "b"}, "lane": "background", "tenant": "default"}
    assert (event.kind, event.digest, event.tenant, event.labels, event.lane) == (
        "chat", made.digest, "default", {"a": "b"}, "background",
    )  # fmt: skip
    assert event.writer.startswith("client")


@pytest.mark.requirement("RUN-19")
def test_the_lane_chooses_the_queue() -> None:
    assert (submitted().task, submitted().queue) == (names.CHAT, "fireworks.chat")
    assert submitted(lane="background").queue == "fireworks.chat.bg"


@pytest.mark.requirement("RUN-25")
def test_a_request_over_64_kb_goes_beside_the_stream() -> None:
    made = submitted(messages=[{"role": "user", "content": "€" * 30_000}])
    assert (queued(made).request, queued(made).request_blob) == (None, 0)
    blob = str(made.script.args[3])
    assert len(blob.encode()) > SPILL_BYTES > len(str(made.script.args[2]))
    assert digest_of(json.loads(blob)) == made.digest


@pytest.mark.requirement("RUN-01")
def test_a_run_without_an_id_gets_a_fresh_one() -> None:
    assert submitted().run_id != submitted().run_id
    assert keys.check_run_id(submitted().run_id)


@pytest.mark.requirement("RUN-01", "RUN-16")
def test_the_same_tenant_and_key_are_the_same_run() -> None:
    assert submitted(idempotency_key="k").run_id == submitted(idempotency_key="k").run_id
    assert submitted(idempotency_key="k").digest == submitted(idempotency_key="k").digest
    ids = {submitted(idempotency_key="k", tenant=tenant).run_id for tenant in ("a", "b")}
    assert len(ids | {submitted(idempotency_key="K", tenant="a").run_id}) == 3
    here = ClientSettings(redis_url="redis://nowhere", tenant="a")
    assert submitted(idempotency_key="k", settings=here).run_id in ids, "the client's tenant counts like a given one"


@pytest.mark.requirement("RUN-16", "RUN-12")
def test_key_labels_and_deadline_are_in_the_first_event_also_beside_a_spilled_request() -> None:
    large = [{"role": "user", "content": "x" * 70_000}]
    first = queued(submitted(idempotency_key="k", labels={"a": "b"}, deadline_s=5, messages=large))
    assert (first.request, first.idempotency_key, first.labels, first.deadline_s) == (None, "k", {"a": "b"}, 5)


@pytest.mark.requirement("RUN-16")
def test_the_clients_tenant_is_that_of_requests_which_name_none() -> None:
    here = ClientSettings(redis_url="redis://nowhere", tenant="acme")
    assert queued(submitted(settings=here)).tenant == "acme"
    assert (queued(submitted(settings=here)).request or {})["tenant"] == "acme"
    assert queued(submitted(settings=here, tenant="default")).tenant == "default"


@pytest.mark.requirement("RUN-01")
def test_another_request_has_another_digest_and_another_spelling_has_not() -> None:
    assert submitted(temperature=1).digest != submitted().digest
    assert submitted(temperature=1.0).digest == submitted(temperature=1.0).digest
    assert submitted(seed=None).digest == submitted().digest
    as_object = submission("chat", ChatRequest.model_validate(QUESTION), None, SETTINGS)
    assert as_object.digest == submitted().digest
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_digest_is_the_first_half_of_sha_256_over_sorted_json() -> None:
    assert canonical({"b": "ü", "a": [1, None]}) == '{"a":[1,null],"b":"ü"}'
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e"


@pytest.mark.requirement("RUN-14")
def test_a_bad_request_fails_in_the_caller() -> None:
    with pytest.raises(ValidationError):
        submitted(temperature=3)
    with pytest.raises(keys.BadRunId):
        submitted("-")
    with pytest.raises(ValueError, match="not both"):
        submitted("run-1", idempotency_key="k")


def test_a_request_is_given_as_an_object_a_mapping_or_fields() -> None:
    made = ChatRequest.model_validate(QUESTION)
    assert checked(ChatRequest, made, {}) is made
    assert checked(ChatRequest, QUESTION, {}) == checked(ChatRequest, None, QUESTION) == made
    changed = checked(ChatRequest, made, {"temperature": 1})
    assert (changed.temperature, changed.model_fields_set) == (1, {"model", "messages", "temperature"})
    with pytest.raises(ValidationError):
        checked(ChatRequest, None, {})
    with pytest.raises(ValidationError):
        checked(ChatRequest, made, {"temperature": 3})


@pytest.mark.requirement("RUN-06")
def test_a_signal_is_one_script_over_the_lease_and_the_inbox() -> None:
    call = signal_call("run-1", "cancel", {"reason": "ü"}, "s1", ttl_s=2.5)
    assert call.keys == (keys.lease("run-1"), keys.inbox("run-1"), keys.due("1"))
    assert call.args == ("cancel", '{"reason":"ü"}', "s1", 2500, "run-1")
