"""Flower's application with our rules: events and answers lose their content on the way in, Terminate asks the run.

Owns what differs from Flower's own endpoints. The rest is inherited.
"""

from typing import Any, Final

from celery import Celery, states
from flower.api.control import TaskRevoke
from flower.api.tasks import TaskAbort, TaskApply, TaskResult
from flower.app import Flower
from flower.events import Events, EventsState
from redis.exceptions import RedisError
from tornado import web
from tornado.ioloop import IOLoop

from api_contracts.client import Client
from api_contracts.failure import RunFailed, RunNotFound
from api_contracts.keys import RUN_ID
from api_contracts.names import HIDDEN
from workers.cli.flowering.discretion import quiet_answer, quiet_event

REASON: Final = "terminated in Flower"


class TrueState(EventsState):
    """Flower's memory. A parked run cannot be over, so a RETRY that comes late must not undo what came after it."""

    def event(self, event: dict[str, Any]) -> None:
        """Take one event, in the loop's thread."""
        known = self.tasks.get(event.get("uuid"))
        late = known is not None and event.get("timestamp", 0.0) < (known.timestamp or 0.0)
        if not (late and event["type"] == "task-retried"):
            super().event(event)


class QuietEvents(Events):
    """Flower's thread that receives events."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Take one event, in this thread."""
        super().on_event(quiet_event(event))


class QuietFlower(Flower):
    """Flower's web application. Make it inside of the loop that serves it."""

    def __init__(self, app: Celery, options: Any, client: Client, **pages: Any) -> None:
        bounds = {"max_workers_in_memory": options.max_workers, "max_tasks_in_memory": options.max_tasks}
        loop = IOLoop.current()
        events = QuietEvents(app, io_loop=loop, enable_events=options.enable_events, **bounds)
        events.state = TrueState(**bounds)
        super().__init__(options=options, capp=app, events=events, io_loop=loop, **pages)
        self.client = client
        # Tornado asks later rules for a host before those of the constructor.
        self.add_handlers(r".*", [(_path(options, path), handler) for path, handler in _OWN])

    @property
    def workers(self) -> dict[str, Any]:
        """What the workers said of themselves, for every page and answer."""
        return {name: quiet_answer(said) for name, said in self.inspector.workers.items()}


class Revoke(TaskRevoke):
    """Revoke and Terminate: a run is asked to cancel, wherever it is; other tasks are Celery's."""

    application: QuietFlower

    @web.authenticated
    async def post(self, taskid: str) -> None:
        """Say what came of it."""
        if self.application.options.read_only:
            raise web.HTTPError(403, "Read only mode is enabled")
        said = None
        if RUN_ID.fullmatch(taskid):
            said = await self.run_blocking("run.cancel", taskid, self._cancel, taskid, connection_errors=(RedisError,))
        if said is None:
            if (other := super().post(taskid)) is not None:
                await other
            return
        self.write({"message": said})

    def _cancel(self, run_id: str) -> str | None:
        try:
            asked = self.application.client.cancel(run_id, REASON)
        except RunNotFound:
            return None
        return f"Run {run_id} was asked to cancel" if asked else f"Run {run_id} had ended before: nothing is changed"


class _NoResult:
    def update_response_result(self, response: dict[str, Any], result: Any) -> None:
        """Tell that there is a result, or the failure of a run, which carries no content."""
        failed = result.state == states.FAILURE and isinstance(result.result, RunFailed)
        response["result"] = repr(result.result) if failed else HIDDEN


class Result(_NoResult, TaskResult):
    """The state of a task, without its result: that is for who submitted it."""


class Apply(_NoResult, TaskApply):
    """Start a task and wait for its end, without its result."""


class Abort(TaskAbort):
    """Refused: it would write ABORTED over the run's state and end nothing."""

    @web.authenticated
    async def post(self, taskid: str) -> None:
        """Say what to do instead."""
        raise web.HTTPError(403, f"abort ends no run: POST /api/task/revoke/{taskid}?terminate=true")


_OWN: Final = (
    (r"/api/task/revoke/(.+)", Revoke),
    (r"/api/task/result/(.+)", Result),
    (r"/api/task/apply/(.+)", Apply),
    (r"/api/task/abort/(.+)", Abort),
)


def _path(options: Any, path: str) -> str:
    return f"/{options.url_prefix.strip('/')}{path}" if options.url_prefix else path
