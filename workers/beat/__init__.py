"""Beat: what rings by the clock. Several may run; one holds the lock and ticks, the others wait.

Owns RedBeat's lock, the entries (ours and the operator's) and the claim of each tick. It must not know what a task
does, nor how a run goes on.
"""

from typing import Any, Final

from kombu.utils.url import maybe_sanitize_url

from api_contracts import keys

LOCK_S: Final = 20.0
"""A beat that was killed is replaced when its lock has run out: within this and `WAIT_S`."""
PASS_S: Final = 5.0
"""Longest pause between two passes of the beat that ticks; each renews the lock."""
WAIT_S: Final = 2.0
"""Pause of a beat that waits for the lock, or for Redis or the broker to come back."""
CONNECT_S: Final = 3.0
"""How long Redis and the broker may take to answer: together well below the lock."""


def configuration(redis_url: str) -> dict[str, Any]:
    """Return the settings of Celery and RedBeat that are beat's."""
    return {
        "beat_scheduler": "workers.beat.scheduler:Scheduler",
        "beat_max_loop_interval": PASS_S,
        # For show: the scheduler brings its connection. `inspect conf` would print a password.
        "redbeat_redis_url": maybe_sanitize_url(redis_url),
        "redbeat_key_prefix": keys.BEAT,
        "redbeat_lock_key": keys.BEAT_LOCK,
        "redbeat_lock_timeout": LOCK_S,
        # Named, or RedBeat takes those of the broker. A pass that fails is made again: no retries below it.
        "redbeat_redis_options": {
            "socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S, "socket_keepalive": True, "retry": None,
        },
    }  # fmt: skip
