"""What is logged, and what is not: content and secrets (`telemetry.logs`, `telemetry.secrets`, `telemetry.trace`)."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery.app import trace as celery_trace
from celery.worker.consumer import consumer as celery_consumer
from pydantic import BaseModel

from tests.logs import loggers_as_new
from workers.ports import StoreUnavailable
from workers.settings import Settings
from workers.telemetry import Secrets, configure, known_secrets, trace_id_of

PROMPT = "tell me about the canary"
KEY = 'fw_"quoted\\key'
SIGNING = ("signing-one-of-32-characters-and-more", "signing-two-of-32-characters-and-more")
SETTINGS = Settings(
    redis_url="redis://:redispassword@cache:6379/0",
    broker_url="amqp://user:broker%2Fpassword@mq:5672//",
    database_url="postgresql://u:dbpassword@sql/db",
    api_key=KEY,  # type: ignore[arg-type]
    credentials={"other": "fw_other_key"},  # type: ignore[dict-item]
    signing_keys=",".join(SIGNING),  # type: ignore[arg-type]
    flower_auth="ann:flowerpassword",  # type: ignore[arg-type]
)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Yield what returns the events that were logged; the root logger is given back."""
    root, ours, stream = logging.getLogger(), logging.getLogger("workers"), io.StringIO()
    before = root.handlers[:], root.level, ours.level
    configure("DEBUG", known_secrets(SETTINGS))
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level, ours.level = before
    loggers_as_new()
    structlog.contextvars.clear_contextvars()


@pytest.mark.requirement("OPS-07")
def test_an_event_has_its_name_its_fields_and_the_ids_of_its_run(lines: Any) -> None:
    structlog.contextvars.bind_contextvars(run_id="r1", tenant="acme", trace_id="abc")
    structlog.get_logger("workers.here").debug("run.seen", number=3)
    logging.getLogger("celery.some").info("plain %s", "words")
    seen, plain = lines()
    assert (seen["event"], seen["number"]) == ("run.seen", 3)
    assert (plain["event"], plain["level"]) == ("plain words", "info")
    for line in (seen, plain):
        assert (line["run_id"], line["tenant"], line["trace_id"]) == ("r1", "acme", "abc")


@pytest.mark.requirement("OPS-07", "OPS-13")
@pytest.mark.parametrize(
    "secret",
    [KEY, "fw_other_key", *SIGNING, "flowerpassword", "redispassword", "broker/password",
     "broker%2Fpassword", "dbpassword"],
)  # fmt: skip
def test_a_secret_of_the_settings_is_masked_wherever_it_appears(lines: Any, secret: str) -> None:
    log = structlog.get_logger("workers.here")
    log.info("said", where=f"x{secret}y", nested={"list": [secret]})
    log.info(secret)
    logging.getLogger("other").warning("connecting with %r", secret)
    try:
        raise OSError(f"cannot use {secret}")
    except OSError:
        log.exception("broken")
    text = json.dumps(lines())
    assert len(lines()) == 4
    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text


@pytest.mark.requirement("OPS-07")
def test_what_looks_like_a_secret_is_masked_whoever_s_it_is() -> None:
    mask = Secrets().mask
    assert mask("to amqp://guest:guest@127.0.0.1:5672//") == "to amqp://guest:***@127.0.0.1:5672//"
    assert mask("https://host/a:b@c") == "https://host/a:b@c"
    assert mask('{"Authorization": "Bearer abc.def"}') == '{"Authorization": "Bearer ***"}'
    assert "abc" not in mask("sent bearer abcdef0123")
    assert mask("no authorization was asked for") == "no authorization was asked for"


@pytest.mark.requirement("OPS-07")
def test_the_text_of_an_exception_is_told_only_where_it_cannot_be_content(lines: Any) -> None:
    class Asked(BaseModel):
        number: int

    log = structlog.get_logger("workers.here")
    try:
        try:
            Asked.model_validate({"number": PROMPT})
        except ValueError as exc:
            raise KeyError(PROMPT) from exc
    except KeyError:
        log.exception("run.defect")
    try:
        raise StoreUnavailable("Redis: ConnectionError")
    except StoreUnavailable:
        log.exception("away")
    defect, away = lines()
    assert "canary" not in json.dumps(defect)
    assert "KeyError\nafter:\n" in defect["exception"]
    assert "ValidationError" in defect["exception"]
    assert "model_validate" in defect["exception"]
    assert "StoreUnavailable: Redis: ConnectionError" in away["exception"]


@pytest.mark.requirement("OPS-07")
@pytest.mark.parametrize(
    ("message", "args", "kept"),
    [
        (celery_consumer.UNKNOWN_FORMAT, (PROMPT,), "Received and deleted unknown message"),
        (celery_consumer.UNKNOWN_TASK_ERROR, (KeyError("some.task"), PROMPT, PROMPT, PROMPT), "unregistered task"),
        (celery_consumer.INVALID_TASK_ERROR, (ValueError(PROMPT), PROMPT), "invalid task message: ValueError"),
        (celery_consumer.MESSAGE_DECODE_ERROR, (ValueError(PROMPT), "t", "e", PROMPT, PROMPT), "Can't decode message"),
        ("Task exception was never retrieved\nfuture: %r", (PROMPT,), "never retrieved"),
    ],
)
def test_what_celery_quotes_of_a_bad_message_is_left_out(lines: Any, message: str, args: Any, kept: str) -> None:
    logging.getLogger("celery.worker.consumer.consumer").error(message, *args)
    (line,) = lines()
    assert kept in line["event"]
    assert "canary" not in json.dumps(line)


@pytest.mark.requirement("OPS-07")
@pytest.mark.parametrize("template", [celery_trace.LOG_SUCCESS, celery_trace.LOG_FAILURE, celery_trace.LOG_RETRY])
def test_celery_s_report_on_a_task_says_which_and_how_it_ended_and_not_what_was_in_it(
    lines: Any, template: str
) -> None:
    fields = {
        "id": "task-1", "name": "some.tool", "runtime": 1.5, "description": "raised unexpected", "return_value": PROMPT,
        "exc": f"ValueError('{PROMPT}')", "args": PROMPT, "kwargs": PROMPT, "traceback": PROMPT,
    }  # fmt: skip
    logging.getLogger("celery.app.trace").error(template, fields)
    (line,) = lines()
    assert line["event"].startswith("Task some.tool[task-1] ")
    assert "canary" not in json.dumps(line)


@pytest.mark.requirement("OPS-07")
def test_libraries_are_heard_from_info_on(lines: Any) -> None:
    logging.getLogger("websockets.client").debug("> Authorization: Bearer x")
    logging.getLogger("workers.pool").debug("ours")
    assert [line["event"] for line in lines()] == ["ours"]


@pytest.mark.requirement("OPS-07")
def test_fields_that_are_named_like_content_are_dropped(lines: Any) -> None:
    structlog.get_logger("workers.here").info("slip", prompt=PROMPT, messages=[PROMPT], kwargs={"a": PROMPT}, text=3)
    (line,) = lines()
    assert "canary" not in json.dumps(line)
    assert line["text"] == 3


@pytest.mark.requirement("OPS-07")
def test_a_record_that_cannot_be_written_is_told_without_what_it_holds(
    lines: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = next(each for each in logging.getLogger().handlers if type(each).__module__.startswith("workers."))
    ours.handle(logging.makeLogRecord({"name": "other", "msg": "%d things", "args": (PROMPT,)}))
    assert lines() == []
    said = json.loads(capsys.readouterr().err)
    assert said == {"event": "log.unwritable", "logger": "other", "error": "TypeError"}


@pytest.mark.requirement("OPS-07")
@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
        ("nonsense", None),
        (None, None),
        (7, None),
    ],
)
def test_the_trace_id_is_that_of_the_w3c_s_header(header: object, found: str | None) -> None:
    assert trace_id_of(header) == found
