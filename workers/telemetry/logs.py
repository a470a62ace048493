"""Logs as JSON events on standard error: fixed names, the ids of run, tenant and trace, no content, no secrets.

Content is what a producer, a model, a tool or a speaker said. Our events have no field for it. What others log (Celery,
kombu, asyncio) may quote it, and so may the text of an exception; both are cut down to what cannot.
"""

import copy
import json
import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from api_contracts.failure import RunFailed, RunIsParked
from workers.errors import Misconfigured
from workers.ports import LeaseLost, StoreUnavailable
from workers.telemetry.secrets import Secrets

_OURS: Final = "workers"
_PLAIN: Final = (
    *(OSError, EOFError, ImportError, NameError, AttributeError, TypeError, AssertionError, MemoryError),
    *(RunFailed, RunIsParked, StoreUnavailable, LeaseLost, Misconfigured),
)
"""Exceptions whose text has no content: they speak of the machine, of code, or are ours and checked (RUN-09)."""
_CONTENT: Final = frozenset(
    ("request", "messages", "prompt", "text", "content", "arguments", "result", "args", "kwargs", "body", "data")
)
_SILENT: Final = "celery.worker.strategy"
"""Tells of each message as it comes in, in the thread that takes the next one, before anybody can begin with it."""
_QUOTING: Final = ("Can't decode message body",)
"""First lines of others that quote headers, and with them the arguments."""


def configure(level: str = "INFO", secrets: Secrets | None = None) -> None:
    """Send structlog and the standard library through one JSON renderer. `level` is for our own events.

    Libraries are heard from INFO on: below that, clients of HTTP and websockets log what they send, keys and all.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(lambda info: stack(info[1])),
        _without_content,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(secrets or Secrets())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level]))
    logging.getLogger(_OURS).setLevel(level)
    logging.getLogger(_SILENT).setLevel(logging.WARNING)


def stack(exc: BaseException | None) -> str:
    """Return the stack of an exception and of what led to it; texts that may hold content are left out."""
    shown: list[str] = []
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        shown.append("".join(traceback.format_tb(exc.__traceback__)) + told(exc))
        if isinstance(exc, BaseExceptionGroup):
            shown += [stack(one) for one in exc.exceptions]
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return "\nafter:\n".join(shown)


def told(exc: BaseException) -> str:
    """Return what may be said of an exception: its type, and its text where that cannot be content."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, _PLAIN) else type(exc).__name__


class _Handler(logging.StreamHandler[Any]):
    """Writes a line for each record, secrets masked. A record that cannot be written is told without what it holds."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(sys.stderr)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self._secrets.mask(super().format(_cleaned(record)))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        kind = getattr(sys.exc_info()[0], "__name__", "")
        sys.stderr.write(json.dumps({"event": "log.unwritable", "logger": record.name, "error": kind}) + "\n")


def _without_content(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop fields that are named like content, should one slip in; numbers are none."""
    for name in _CONTENT & event.keys():
        if isinstance(event[name], str | bytes | Mapping | list | tuple):
            event[name] = "(content)"
    return event


def _cleaned(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record that may be shown. structlog's own come as mappings and were cleaned field by field."""
    if isinstance(record.msg, dict):
        return record
    record = copy.copy(record)
    if isinstance(record.args, tuple):
        record.args = tuple(told(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
    elif isinstance(record.args, Mapping):
        record.args = {name: _of_task(name, value) for name, value in record.args.items()}
    if record.name.partition(".")[0] != _OURS:
        _keep_the_first_line(record)
    return record


def _of_task(name: str, value: object) -> object:
    """Return what may be shown of a field of Celery's report on a task."""
    if name in ("return_value", "traceback", "args", "kwargs"):
        return "-"
    if name != "exc" or str(value).startswith(_ENDS):
        return value
    return str(value).partition("(")[0][:100]


_ENDS: Final = (RunFailed.__name__, RunIsParked.__name__, "Retry")


def _keep_the_first_line(record: logging.LogRecord) -> None:
    """Celery, kombu and asyncio say what happened on the first line and quote bodies and objects on the next ones."""
    text = next((quoting for quoting in _QUOTING if str(record.msg).startswith(quoting)), "")
    record.msg, record.args = text or record.getMessage().lstrip().split("\n", 1)[0], None
