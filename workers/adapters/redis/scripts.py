"""The service's own scripts, run by EVALSHA and loaded again when Redis forgot them."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from api_contracts.client.scripts import ScriptCall, load
from workers.adapters.redis.connection import converse

_PACKAGE = "workers.adapters.redis"
ACQUIRE = load(_PACKAGE, "acquire")
APPEND = load(_PACKAGE, "append")
RENEW = load(_PACKAGE, "renew")
MEND = load(_PACKAGE, "mend")
RELEASE = load(_PACKAGE, "release")
PARK = load(_PACKAGE, "park")
ANNOUNCE = load(_PACKAGE, "announce")
HOLD = load(_PACKAGE, "hold")
CLAIM = load(_PACKAGE, "claim")
WAITING = load(_PACKAGE, "waiting")
SETTLE = load(_PACKAGE, "settle")
BREAKER_ENTER = load(_PACKAGE, "breaker_enter")
BREAKER_FAILED = load(_PACKAGE, "breaker_failed")
LIMITS = load(_PACKAGE, "limits")
BUDGET_RESERVE = load(_PACKAGE, "budget_reserve")
BUDGET_SETTLE = load(_PACKAGE, "budget_settle")


async def run_all(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run the calls in order in one pipeline; return their replies, an exception where one failed.

    What Redis did not run because it had forgotten the script is run again, with the script loaded.
    """
    replies = await _pipelined(redis, calls)
    if again := unsettled(calls, replies, (NoScriptError,)):
        for script in {calls[index].script for index in again}:
            await redis.script_load(script)
        repeated = await _pipelined(redis, [calls[index] for index in again])
        for index, reply in zip(again, repeated, strict=True):
            replies[index] = reply
    return replies


def unsettled(calls: Sequence[ScriptCall], replies: Sequence[Any], errors: tuple[type[Exception], ...]) -> list[int]:
    """Return the places of the calls that `errors` stopped, and of the later calls of the same runs.

    Those were answered as if the earlier one had never been sent, so their replies say nothing. Other runs' calls are
    left alone: a claim that was won must not be asked for twice.
    """
    found: list[int] = []
    stopped: set[str] = set()
    for index, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if call.keys[0] in stopped or isinstance(reply, errors):
            stopped.add(call.keys[0])
            found.append(index)
    return found


async def run(redis: Redis, call: ScriptCall) -> Any:
    """Run one call; return its reply or raise its error."""
    (reply,) = await run_all(redis, [call])
    if isinstance(reply, Exception):
        raise reply
    return reply


async def _pipelined(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    return await converse(redis, [call.spelled() for call in calls])
