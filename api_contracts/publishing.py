"""The contracts as documents for other languages: JSON Schema of every value, AsyncAPI 3 of every queue and stream.

Both are made from the classes here, never by hand. `fireworks-workers contracts export` writes them.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from api_contracts import SCHEMA_VERSION, keys
from api_contracts.batch import BatchRequest
from api_contracts.chat import ChatRequest
from api_contracts.citations import CiteRequest
from api_contracts.failure import Failure
from api_contracts.names import CONTROL_QUEUE, DELIVER, SIGNAL, TASK_OF, WAKE, Kind, queue_of
from api_contracts.runs import Event, Request, Result
from api_contracts.signals import SIGNALS
from api_contracts.stt import AudioControl, SttRequest
from api_contracts.stt_files import SttFileRequest
from api_contracts.vocabulary import EVENT_TYPES, RESULT_TYPES

Json = dict[str, Any]

REQUEST_TYPES: Final[Mapping[Kind, type[Request]]] = {
    "chat": ChatRequest, "stt": SttRequest, "stt_file": SttFileRequest, "batch": BatchRequest, "cite": CiteRequest,
}  # fmt: skip
_REF: Final = "#/components/schemas/{model}"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, Json]:
    """Return a JSON Schema for each name: requests and signals as the service takes them; results, events and failures
    as it writes them; the frame of an event; an audio control.
    """
    found: dict[str, Json] = {}
    for model in _inputs():
        found[model.__name__] = model.model_json_schema(mode="validation")
    for model in _outputs():
        found[model.__name__] = model.model_json_schema(mode="serialization")
    found["AudioControl"] = TypeAdapter(AudioControl).json_schema()
    return {name: {"$schema": _DIALECT, **found[name]} for name in sorted(found)}


def asyncapi(version: str) -> Json:
    """Return the AsyncAPI 3.0 document of a release: Celery's queues, and the Redis streams of a run."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fireworks Workers",
            "version": version,
            "description": f"Runs behind a message queue. Schema version {SCHEMA_VERSION}.",
        },
        "defaultContentType": "application/json",
        "channels": {**_queues(), **_streams()},
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _components()},
    }


def _inputs() -> list[type[BaseModel]]:
    return [*REQUEST_TYPES.values(), *SIGNALS.values()]


def _outputs() -> list[type[BaseModel]]:
    return [Event, Failure, *RESULT_TYPES.values(), *EVENT_TYPES.values()]


def _components() -> dict[str, Json]:
    """Return every schema once, with references between them. Reading and writing have schemas of their own where they
    differ.
    """
    inputs = [(model, "validation") for model in _inputs()]
    outputs = [(model, "serialization") for model in (Failure, Result, *_outputs()[2:])]
    _, schema = models_json_schema([*inputs, *outputs], ref_template=_REF)  # type: ignore[list-item]
    control = TypeAdapter(AudioControl).json_schema(ref_template=_REF)
    control.pop("discriminator")  # OpenAPI's form; AsyncAPI has another one, and each variant says its type anyway
    found: dict[str, Json] = {**schema["$defs"], **control.pop("$defs", {}), "AudioControl": control}
    return {name: found[name] for name in sorted(found)}


def _queues() -> dict[str, Json]:
    """Return a channel for each queue; two kinds may share one. What steers runs has a queue of its own."""
    channels: dict[str, Json] = {}
    for kind, task in TASK_OF.items():
        for lane in ("interactive", "background"):
            queue = queue_of(kind, lane)
            channel = channels.setdefault(_name(queue), _queue(queue))
            channel["messages"][_name(task)] = _message(task)
    steering = {_name(task): _message(task) for task in (SIGNAL, WAKE, DELIVER)}
    return {**channels, _name(CONTROL_QUEUE): {**_queue(CONTROL_QUEUE), "messages": steering}}


def _queue(name: str) -> Json:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
    amqp = {"is": "queue", "queue": queue, "bindingVersion": "0.3.0"}
    return {"address": name, "description": _QUEUE, "bindings": {"amqp": amqp}, "messages": {}}


def _message(name: str) -> Json:
    return {"$ref": f"#/components/messages/{_name(name)}"}


_QUEUE: Final = (
    "A plain durable queue of Celery, protocol 2: on Redis a list (LPUSH), on RabbitMQ a queue with an exchange and a "
    "routing key of its own name."
)
_RUN_ID: Final = {"description": f"The run's id, which is the Celery task id: {keys.RUN_ID.pattern}"}
_SLOT: Final = {"description": f"The run id's last character, in braces of its own: such as {keys.events('run-17')}"}


def _streams() -> dict[str, Json]:
    """Return the three Redis streams of a run."""
    parameters = {"run_id": _RUN_ID, "slot": _SLOT}
    known = {_name(kind): _message(kind) for kind in sorted(EVENT_TYPES)}
    return {
        "events": {
            "address": keys.address("events"),
            "description": "The journal, a Redis stream. Entry ids are <seq>-0. Of seq, type, at, epoch, data the "
            "last is the message's payload as JSON, the others are its headers.",
            "parameters": parameters,
            "messages": known,
        },
        "inbox": {
            "address": keys.address("inbox"),
            "description": "Signals, a Redis stream. Of type, data, id the second is the message's payload as "
            "JSON, the others are its headers.",
            "parameters": parameters,
            "messages": {name: _message(name) for name in SIGNALS},
        },
        "audio": {
            "address": keys.address("audio"),
            "description": "A speech session's sound: field a (raw audio) or c (a control).",
            "parameters": parameters,
            "messages": {"control": _message("control")},
        },
    }


def _messages() -> dict[str, Json]:
    messages: dict[str, Json] = {}
    for kind, task in TASK_OF.items():
        messages[_name(task)] = {
            "name": task,
            "title": f"Start a run: {kind}",
            "headers": _headers(task),
            "payload": _body(REQUEST_TYPES[kind].__name__),
        }
    for type_, cls in sorted(EVENT_TYPES.items()):
        messages[_name(type_)] = {"name": type_, "headers": _entry(type_), "payload": _schema(cls)}
    for signal, of_signal in SIGNALS.items():
        messages[signal] = {"name": signal, "headers": _letter(signal), "payload": _schema(of_signal)}
    messages |= _steering()
    messages["control"] = {"name": "control", "payload": {"$ref": "#/components/schemas/AudioControl"}}
    return messages


def _steering() -> dict[str, Json]:
    """Return the tasks by which runs are signalled, rung for and told the results of their tools."""
    run_id, text = {"type": "string", "pattern": f"^{keys.RUN_ID.pattern}$"}, {"type": "string"}
    signal = {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(SIGNALS)}, "id": text}}
    delivery = {"run_id": run_id, "call_id": text, "token": text, "outcome": {"enum": ["result", "failed"]}}
    told: dict[str, tuple[str, Json, Json]] = {
        SIGNAL: (
            "Signal a run: its type, its id and its data beside each other",
            {"run_id": run_id, "signal": signal},
            {},
        ),
        WAKE: ("Ring for a run whose inbox was written to", {"run_id": run_id}, {}),
        DELIVER: (
            "Settle a tool call; linked to the tool's task, whose value or id it gets",
            delivery,
            {"maxItems": 1},
        ),
    }
    return {
        _name(task): {
            "name": task, "title": title, "headers": _headers(task, of_run=False), "payload": _body_of(kwargs, args),
        }
        for task, (title, kwargs, args) in told.items()
    }  # fmt: skip


def _schema(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _entry(type_: str) -> Json:
    """Return the fields of a journal's entry beside its data; in the stream all of them are text."""
    number = {"type": "integer"}
    fields = {"type": {"const": type_}, "seq": number | {"minimum": 1}, "at": number, "epoch": number | {"minimum": 0}}
    return {"type": "object", "required": list(fields), "properties": fields}


def _letter(signal: str) -> Json:
    """Return the fields of an inbox's entry beside its data: the same id twice is one signal."""
    return {
        "type": "object", "required": ["type"],
        "properties": {"type": {"const": signal}, "id": {"type": "string", "maxLength": 256}},
    }  # fmt: skip


def _headers(task: str, *, of_run: bool = True) -> Json:
    """Return Celery's headers as far as we need them; every other of protocol 2 is taken too. The id is the run's."""
    task_id = {"type": "string", "pattern": f"^{keys.RUN_ID.pattern}$"} if of_run else {"type": "string"}
    return {
        "type": "object",
        "required": ["task", "id"],
        "properties": {
            "task": {"const": task},
            "id": task_id,
            "traceparent": {"type": "string", "description": "W3C trace context"},
        },
    }


def _body(request: str) -> Json:
    return _body_of({"request": {"$ref": f"#/components/schemas/{request}"}}, {"maxItems": 0})


def _body_of(properties: Json, args: Json) -> Json:
    """Return the body of protocol 2: positional arguments, keyword arguments, and what is linked."""
    kwargs = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "array", "minItems": 2, "items": [{"type": "array", **args}, kwargs, {"type": "object"}]}


def _operations() -> dict[str, Json]:
    """Return what the service does: it receives from queues, inboxes and audio, and sends events."""
    operations: dict[str, Json] = {
        f"receive_{name}": {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}}
        for name in (*_queues(), "inbox", "audio")
    }
    operations["send_events"] = {"action": "send", "channel": {"$ref": "#/channels/events"}}
    return operations


def _name(address: str) -> str:
    return address.replace(".", "_")
