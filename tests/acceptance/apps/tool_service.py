"""A service of tools: a Celery app of its own, with a queue of its own and no result backend. Not ours in any way.

It also plays the caller's own service, whose tasks are linked to runs.
"""

import os

from celery import Celery
from celery.exceptions import Ignore

from api_contracts.client import RedisGuard, at_most_once, tool_errors
from tests.acceptance.apps.board import REDIS, Board

BROKER = "ACCEPTANCE_BROKER"
QUEUE = "acceptance-tools"

app = Celery("acceptance-tools", broker=os.environ.get(BROKER), backend="disabled", set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
# Stock Celery waits on a dead line to Redis for ever, and what it told a RabbitMQ that hung up counts as sent.
_REDIS = {"socket_timeout": 5, "socket_connect_timeout": 5, "health_check_interval": 5}
_IS_REDIS = os.environ.get(BROKER, "").startswith("redis")
app.conf.broker_transport_options = _REDIS if _IS_REDIS else {"confirm_publish": True}
_guard = RedisGuard(os.environ.get(REDIS, "redis://nowhere.invalid"))


@app.task(name="acceptance.read")
def read(key: str) -> str:
    """Read, at once."""
    Board().mark(key, "read")
    return f"{key} was read"


@app.task(name="acceptance.charge", acks_late=True)
@tool_errors
@at_most_once(_guard)
def charge(key: str) -> str:
    """Take money, then wait for the gate; the broker repeats it if this process dies, the guard does not."""
    board = Board()
    board.mark(key, "charged")
    board.pass_gate(key)
    return f"{key} was charged"


@app.task(name="acceptance.broken")
@tool_errors
def broken(key: str) -> str:
    """Fail, and say why to the operator."""
    raise LookupError(f"no row {key} in table vaults")


@app.task(name="acceptance.bare")
def bare(key: str) -> str:
    """Fail as any task may."""
    raise LookupError(f"no row {key} in table vaults")


@app.task(name="acceptance.dropped")
def dropped(key: str) -> None:
    """Be dropped, as Celery drops a task that has expired: it calls nobody back."""
    Board().mark(key, "dropped")
    raise Ignore


@app.task(name="acceptance.done")
def done(result: object, key: str) -> None:
    """Be called when a run is done."""
    status = result.get("status") if isinstance(result, dict) else result
    Board().mark(key, f"done {status}")


@app.task(name="acceptance.ask")
def ask(text: str) -> dict[str, object]:
    """Make a request: what a chain may hand to a run."""
    return {"model": "accounts/fireworks/models/emulated-classic", "messages": [{"role": "user", "content": text}]}


@app.task(name="acceptance.gathered")
def gathered(results: list[dict[str, object]], key: str) -> None:
    """Be called with the results of several runs."""
    Board().mark(key, f"gathered {' '.join(sorted(str(each['status']) for each in results))}")


@app.task(name="acceptance.failed")
def failed(task_id: object, key: str) -> None:
    """Be called when a run failed."""
    Board().mark(key, f"failed {task_id}")
