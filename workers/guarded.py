"""The base of every task of the service: whoever reaches the broker may call any of them with anything.

Owns what a message must have before a task's body sees it, and what becomes of one that has not: a dead letter with the
reason, and a failure in the one shape for whoever waits for the task, its error callbacks included.
"""

import base64
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import redis
import structlog

from api_contracts.failure import RunFailed
from api_contracts.keys import RUN_ID
from workers.core.text import storable
from workers.pool import LoopTask
from workers.transport.letters import MAX_ENTRY_BYTES, Letter, Refused, bury

MOST_WORD: Final = 512
"""Characters of an argument that is text: ids, tokens and words, never content."""

_log = structlog.get_logger(__name__)


@lru_cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function, eval_str=True)


def misfit(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Refused | None:
    """Return why a function cannot be called so, in words that hold nothing of the arguments; None if it can.

    Arguments whose annotation is `str` are words of at most `MOST_WORD` characters; one called `run_id` is a run id.
    """
    signature = _signature(function)
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return Refused("bad_arguments", f"its arguments do not fit {signature}"[:300])
    for name, value in bound.items():
        if signature.parameters[name].annotation is not str:
            continue
        if not isinstance(value, str):
            return Refused("bad_arguments", f"{name} is no text")
        if len(value) > MOST_WORD or value != storable(value):
            return Refused("bad_arguments", f"{name} is no word of at most {MOST_WORD} characters")
        if name == "run_id" and not RUN_ID.fullmatch(value):
            return Refused("bad_run_id", f"{name} is no run id")
    return None


class GuardedTask(LoopTask):
    """A task that refuses what does not fit it."""

    abstract = True
    throws: Any = (RunFailed,)  # expected: logged without a stack trace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body, or bury the message and raise `RunFailed`."""
        refused = self.refusal(args, kwargs)
        if refused is None:
            return super().__call__(*args, **kwargs)
        self.bury(refused, args, kwargs)
        raise RunFailed(
            {"code": refused.reason, "category": "bad_request", "message": str(refused), "at_fault": "caller"}
        )

    def refusal(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Refused | None:
        """Return why this message is not taken."""
        return misfit(self.run, args, kwargs)

    def bury(self, refused: Refused, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Keep the message as a dead letter."""
        request = self.request
        queue = str((request.delivery_info or {}).get("routing_key"))
        body = json.dumps([args, kwargs, {}], default=repr).encode()
        entry = {
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": self.name, "id": request.id, "root_id": request.root_id},
            "properties": {"body_encoding": "base64", "delivery_info": {"routing_key": queue}},
            "body": base64.b64encode(body[:MAX_ENTRY_BYTES]).decode(),
        }
        letter = Letter(queue, json.dumps(entry, default=repr).encode(), len(body), str(self.name), str(request.id))
        try:
            bury(self.app.backend.client, letter, refused)
        except redis.RedisError as exc:
            _log.error("message.letter_lost", error=type(exc).__name__)
