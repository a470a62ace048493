"""The demo's tool service: a Celery app of its own, with a queue of its own. It knows nothing of `workers`.

Its effect is a counter, so that the story can show how often it happened.
"""

import os

from celery import Celery
from redis import Redis

from api_contracts.client import RedisGuard, at_most_once, tool_errors

QUEUE = "weather-station"
READ_STATION = "weather.read_station"
EFFECTS = "demo:effects"
READINGS = "demo:readings"
"""How often the station was read, and by which process."""

_URL = os.environ.get("FW_REDIS_URL", "redis://localhost")

app = Celery("weather", broker=_URL, backend="disabled", set_as_current=False)
app.conf.update(task_default_queue=QUEUE, worker_send_task_events=False, worker_redirect_stdouts=False)


@app.task(name=READ_STATION)  # type: ignore[untyped-decorator]
@tool_errors
@at_most_once(RedisGuard(_URL))
def read_station(city: str) -> str:
    """Read the weather station; each reading counts."""
    with Redis.from_url(_URL, decode_responses=True) as redis:
        count = redis.hincrby(EFFECTS, city, 1)
        redis.rpush(READINGS, os.getpid())
        redis.expire(EFFECTS, 3600)
        redis.expire(READINGS, 3600)
    print(f"reading the station of {city}: reading number {count}, in process {os.getpid()}", flush=True)  # noqa: T201
    return "3 °C, rain, wind 9 m/s from the north-west"
