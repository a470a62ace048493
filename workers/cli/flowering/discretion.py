"""What Flower must not keep: arguments, results, tracebacks, passwords. Pure; it knows the shapes of Celery's answers.

Our own workers send none of it. Other services on the same broker do, and their calls are our runs' tools.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from api_contracts.names import HIDDEN, TASK_OF

_EMPTY: Final = frozenset({"", "()", "[]", "{}", HIDDEN})
_OURS: Final = ("RunFailed(", "parked: ")
"""How the errors begin whose text is made to be shown (`api_contracts.failure`)."""

_KIND_OF_ERROR: Final = re.compile(r"[A-Za-z_][\w.]*")
_PASSWORD: Final = re.compile(r"(://[^:/@\s]*):[^@/\s]+@")
_IN_THE_LOG: Final = "(in the worker's log)"


def quiet_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of Celery without content: what it is about, when, where and how it ended."""
    told = dict(event)
    for name in ("args", "kwargs"):
        if name in told and told[name] is not None and str(told[name]) not in _EMPTY:
            told[name] = HIDDEN
    if told.get("result") is not None:
        told["result"] = HIDDEN
    if told.get("traceback"):
        told["traceback"] = _IN_THE_LOG
    if told.get("exception"):
        told["exception"] = quiet_error(str(told["exception"]))
    return told


def quiet_error(text: str) -> str:
    """Return a rendered error: whole if it is one of ours, else its kind."""
    if text.startswith(_OURS):
        return text
    kind = _KIND_OF_ERROR.match(text)
    return f"{kind.group() if kind else 'an error'}, {_IN_THE_LOG}"


def quiet_answer(answer: Any) -> Any:
    """Return what a worker said of itself (`inspect`), at any depth without arguments and without passwords in URLs."""
    match answer:
        case Mapping():
            return {
                key: _hidden(value) if key in ("args", "kwargs") else quiet_answer(value)
                for key, value in answer.items()
            }
        case list() | tuple():
            return [quiet_answer(each) for each in answer]
        case str():
            return _PASSWORD.sub(r"\1:***@", answer)
        case _:
            return answer


def _hidden(value: Any) -> Any:
    return value if not value or str(value) in _EMPTY else HIDDEN


def where_to_look(task: Any) -> Any:
    """Return Flower's task, saying where its content is. `Flower.options.format_task`; gets a copy."""
    if task.name in TASK_OF.values():
        task.kwargs = f"{HIDDEN}: fireworks-workers runs show {task.uuid}"
    return task
