"""How a tool of another service says that it failed: by a value, since an errback carries no detail."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_MARK: Final = "fireworks_tool_error"
_REPLY: Final = "fireworks_tool_reply"


def tool_errors(function: Callable[P, R]) -> Callable[P, R | dict[str, Any]]:
    """Decorate a tool's task body (below `@app.task`): what it raises reaches the run's operator, not the model.

    Celery's own exceptions (Retry, Ignore, Reject) pass.
    """

    @wraps(function)
    def caught(*args: P.args, **kwargs: P.kwargs) -> R | dict[str, Any]:
        try:
            return function(*args, **kwargs)
        except Exception as exc:
            if type(exc).__module__.startswith("celery."):
                raise
            return {_MARK: {"type": type(exc).__name__, "message": str(exc)[:1500]}}

    return caught


def tool_reply(value: Any, *, run_llm: bool) -> dict[str, Any]:
    """Return what a tool's task returns to say, beside its result, whether the model is to answer to it.

    Without that the model is asked when every call of its answer has a result; it is not when each of them says no.
    """
    return {_REPLY: {"value": value, "run_llm": run_llm}}


def opened(value: Any, outcome: str) -> dict[str, Any]:
    """Return the letter's `ok`, `value` and `detail` for what a link callback brought."""
    if outcome != "result":
        return {"ok": False, "detail": f"failed, see task {value} in the tool's service"}
    if isinstance(value, dict) and isinstance(error := value.get(_MARK), dict) and len(value) == 1:
        return {"ok": False, "detail": f"{error.get('type')}: {error.get('message')}"}
    if isinstance(value, dict) and isinstance(reply := value.get(_REPLY), dict) and len(value) == 1:
        wanted = {"run_llm": reply["run_llm"]} if isinstance(reply.get("run_llm"), bool) else {}
        return {"ok": True, "value": reply.get("value")} | wanted
    return {"ok": True, "value": value}
