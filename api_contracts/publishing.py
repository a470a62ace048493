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
from api_contracts.names import TASK_OF, Kind, queue_of
from api_contracts.runs import Event, Request, Result
from api_contracts.stt import AudioControl, SttRequest
from api_contracts.vocabulary import EVENT_TYPES, RESULT_TYPES

Json = dict[str, Any]

REQUEST_TYPES: Final[Mapping[Kind, type[Request]]] = {
    "chat": ChatRequest, "stt": SttRequest, "batch": BatchRequest, "cite": CiteRequest,
}  # fmt: skip
_REF: Final = "#/components/schemas/{model}"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, Json]:
    """Return a JSON Schema for each name: requests as the service takes them; results, events and failures as it
    writes them; the frame of an event; an audio control.
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
    return list(REQUEST_TYPES.values())


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
    """Return a channel for each queue; two kinds may share one."""
    channels: dict[str, Json] = {}
    for kind, task in TASK_OF.items():
        for lane in ("interactive", "background"):
            queue = queue_of(kind, lane)
            channel = channels.setdefault(_name(queue), {"address": queue, "description": _QUEUE, "messages": {}})
            channel["messages"][_name(task)] = {"$ref": f"#/components/messages/{_name(task)}"}
    return channels


_QUEUE: Final = (
    "A plain durable queue of Celery, protocol 2: on Redis a list (LPUSH), on RabbitMQ a queue with an exchange and a "
    "routing key of its own name."
)
_RUN_ID: Final = {"description": f"The run's id, which is the Celery task id: {keys.RUN_ID.pattern}"}
_SLOT: Final = {"description": f"The run id's last character, in braces of its own: such as {keys.events('run-17')}"}


def _streams() -> dict[str, Json]:
    """Return the three Redis streams of a run."""
    parameters = {"run_id": _RUN_ID, "slot": _SLOT}
    known = {_name(kind): {"$ref": f"#/components/messages/{_name(kind)}"} for kind in sorted(EVENT_TYPES)}
    return {
        "events": {
            "address": keys.address("events"),
            "description": "The journal. Entry ids are <seq>-0; fields seq, type, at, epoch, data.",
            "parameters": parameters,
            "messages": known,
        },
        "inbox": {
            "address": keys.address("inbox"),
            "description": "Signals. Fields type, data (a JSON object), id (the sender's idempotency key).",
            "parameters": parameters,
            "messages": {"signal": {"$ref": "#/components/messages/signal"}},
        },
        "audio": {
            "address": keys.address("audio"),
            "description": "A speech session's sound: field a (raw audio) or c (a control).",
            "parameters": parameters,
            "messages": {"control": {"$ref": "#/components/messages/control"}},
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
        messages[_name(type_)] = {"name": type_, "payload": {"$ref": f"#/components/schemas/{cls.__name__}"}}
    messages["signal"] = {"name": "signal", "payload": {"type": "object"}}
    messages["control"] = {"name": "control", "payload": {"$ref": "#/components/schemas/AudioControl"}}
    return messages


def _headers(task: str) -> Json:
    """Return Celery's headers as far as we need them; every other of protocol 2 is taken too."""
    return {
        "type": "object",
        "required": ["task", "id"],
        "properties": {
            "task": {"const": task},
            "id": {"type": "string", "pattern": f"^{keys.RUN_ID.pattern}$"},
            "traceparent": {"type": "string", "description": "W3C trace context"},
        },
    }


def _body(request: str) -> Json:
    """Return the body of protocol 2: positional arguments, keyword arguments, and what is linked."""
    kwargs = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": {"$ref": f"#/components/schemas/{request}"}},
    }
    return {"type": "array", "minItems": 2, "items": [{"type": "array", "maxItems": 0}, kwargs, {"type": "object"}]}


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
