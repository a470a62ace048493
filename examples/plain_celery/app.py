"""Plain Celery: a service that enqueues a chat by name, and a task of its own that takes the result.

    FW_REDIS_URL=redis://localhost:6379/0 celery -A examples.plain_celery.app worker -Q shop    # answers arrive here
    FW_REDIS_URL=redis://localhost:6379/0 python -m examples.plain_celery.app "Hello"          # asks, and waits as well

Nothing of ours is imported: the names of the task, its queue and the request's fields are the whole contract
(docs/contracts). Signed messages take one signal handler more, see examples/README.md.
"""

import os
import sys
from typing import Any

from celery import Celery
from celery.result import AsyncResult

REDIS = os.environ.get("FW_REDIS_URL", "redis://localhost:6379/0")
MODEL = os.environ.get("FW_MODEL", "accounts/fireworks/models/<model>")

app = Celery("shop", broker=os.environ.get("FW_BROKER_URL") or REDIS, backend=REDIS)
app.conf.task_default_queue = "shop"


@app.task(name="shop.answered")
def answered(result: dict[str, Any], order: str) -> str:
    """Take the result of a chat: called once it is stored, and again if the process that called died meanwhile."""
    said = f"order {order}: {result['message']['content']}"
    print(said, flush=True)  # noqa: T201 - an example's output
    return said


@app.task(name="shop.gave_up")
def gave_up(run_id: str, order: str) -> None:
    """Take the id of a chat that failed; `AsyncResult(run_id).result` says why."""
    print(f"order {order}: run {run_id} failed", flush=True)  # noqa: T201 - an example's output


def ask(text: str, order: str, run_id: str | None = None) -> AsyncResult:
    """Enqueue; the same `run_id` is the same run, however often it is sent."""
    request = {"model": MODEL, "messages": [{"role": "user", "content": text}], "labels": {"order": order}}
    return app.send_task(
        "fireworks.chat.complete",
        kwargs={"request": request},
        queue="fireworks.chat",
        task_id=run_id,
        link=answered.s(order).set(queue="shop"),  # the workers do not know your routes
        link_error=gave_up.s(order).set(queue="shop"),
    )


if __name__ == "__main__":
    run = ask(sys.argv[1], order="4711", run_id=os.environ.get("RUN_ID"))
    print(run.get(timeout=600)["message"]["content"])  # noqa: T201 - an example's output
