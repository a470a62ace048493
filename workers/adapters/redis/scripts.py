"""The service's own scripts, run by EVALSHA and loaded again when Redis forgot them."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from api_contracts.client.scripts import SIGNAL, SUBMIT, ScriptCall, load

_PACKAGE = "workers.adapters.redis"
ACQUIRE = load(_PACKAGE, "acquire")
APPEND = load(_PACKAGE, "append")
RENEW = load(_PACKAGE, "renew")
RELEASE = load(_PACKAGE, "release")
ANNOUNCE = load(_PACKAGE, "announce")
CLAIM = load(_PACKAGE, "claim")

_SHA = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (ACQUIRE, APPEND, RENEW, RELEASE, ANNOUNCE, CLAIM, SUBMIT, SIGNAL)
}


async def run_all(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run the calls in order in one pipeline; return their replies, an exception where one failed.

    Every script may be run twice with the same arguments, so a forgotten script repeats the whole pipeline.
    """
    replies = await _pipelined(redis, calls)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        await asyncio.gather(*(redis.script_load(script) for script in {call.script for call in calls}))
        replies = await _pipelined(redis, calls)
    return replies


async def run(redis: Redis, call: ScriptCall) -> Any:
    """Run one call; return its reply or raise its error."""
    (reply,) = await run_all(redis, [call])
    if isinstance(reply, Exception):
        raise reply
    return reply


async def _pipelined(redis: Redis, calls: Sequence[ScriptCall]) -> list[Any]:
    pipe = redis.pipeline(transaction=False)
    for call in calls:
        pipe.evalsha(_SHA[call.script], len(call.keys), *call.keys, *call.args)
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    return replies
