"""Our own remote-control commands `revoke` and `terminate`.

Owns which ids go to the runs and which to Celery. Celery's revoke would put a run's id into every worker's set of
revoked tasks, where no wake or retry gets past it, mark its result before SQL, and miss parked runs. This module must
not know what a run is: the runtime hands in who does.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from celery.worker import control as celery_control

logger = logging.getLogger(__name__)

Said = Literal["asked", "over"]
"""What a revoke came to for a run: it was asked to cancel, or had ended before."""

Handler = Callable[[list[str]], Mapping[str, Said]]
"""Gets the ids of a revoke, sorted; asks the runs among them to end and returns what came of it for each of those.

Called in a thread of its own, where it may block. Every worker of a broadcast calls its own, so what it does must be
idempotent.
"""

VERSION_COMMAND: Final = "fireworks"

BOUND_S: Final = 0.8
"""How long the control thread, which also fetches messages, waits; callers wait a second for the reply."""


def install(handler: Handler, bound_s: float = BOUND_S) -> None:
    """Register both commands in this process, in the place of Celery's; the last call counts.

    A handler that raises or takes longer than `bound_s` makes the command answer with an error, and no id goes on to
    Celery: one that is a run's would never run again. What the handler does after that still happens.
    """

    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
        """Revoke tasks by id (or list of ids); runs are cancelled wherever they are."""
        ids = sorted({task_id} if isinstance(task_id, str) else set(task_id or ()))
        try:
            runs = _bounded(handler, ids, bound_s)
        except Exception as exc:
            logger.exception("revoke of %s", ids)
            return celery_control.nok(f"nothing revoked: the runs could not be asked ({type(exc).__name__})")
        return _reply(state, ids, runs, terminate=terminate, signal=signal, **kwargs)

    def terminate(state: Any, signal: Any, task_id: Any, **kwargs: Any) -> Any:
        """Terminate tasks by id (or list of ids); runs are cancelled wherever they are."""
        return revoke(state, task_id, terminate=True, signal=signal, **kwargs)

    one_or_more = "[id1 [id2 [... [idN]]]]"
    celery_control.control_command(name="revoke", variadic="task_id", signature=one_or_more)(revoke)
    celery_control.control_command(
        name="terminate", args=[("signal", str)], variadic="task_id", signature=f"<signal> {one_or_more}"
    )(terminate)


def tell_version(version: str) -> None:
    """Register the inspect command `fireworks`: which release of ours a worker runs (`doctor` asks all of them)."""

    def fireworks(state: Any, **_: Any) -> dict[str, str]:
        """The release of Fireworks Workers."""
        return {"version": version}

    celery_control.inspect_command(name=VERSION_COMMAND)(fireworks)


def _reply(state: Any, ids: list[str], runs: Mapping[str, Said], **options: Any) -> Any:
    others = [each for each in ids if each not in runs]
    if not runs:
        return celery_control.revoke(state, others, **options)
    asked, over = ([each for each in ids if runs.get(each) == said] for said in ("asked", "over"))
    texts = [f"runs {', '.join(asked)} asked to cancel"] if asked else []
    texts += [f"runs {', '.join(over)} had ended before"] if over else []
    if others:
        texts.append(celery_control.revoke(state, others, **options)["ok"])
    return celery_control.ok("; ".join(texts))


def _bounded(handler: Handler, ids: list[str], bound_s: float) -> dict[str, Said]:
    """Call the handler in a thread of its own; raises what it raised, or TimeoutError."""
    results: list[dict[str, Said]] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(dict(handler(ids)))
        except Exception as exc:  # noqa: BLE001 - handed to the caller
            errors.append(exc)

    thread = threading.Thread(target=call, name="fw-revoke", daemon=True)
    thread.start()
    thread.join(bound_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {bound_s} s")
    return results[0]
