"""Apps that must not start: which one is said by the environment."""

import os

from celery import Task

from tests.contract.celery.apps.settings import START, app_of_this_process
from workers.pool import LoopTask, hooks_of

app = app_of_this_process(task_cls=Task)


async def fails() -> None:
    raise ConnectionRefusedError("no database at db:5432")


async def works(x: int) -> int:
    return x


match os.environ[START]:
    case "hook":
        hooks_of(app).on_start.append(fails)
    case "plain":
        app.task(works)
    case "autoretry":
        app.task(works, base=LoopTask, autoretry_for=(ValueError,))
