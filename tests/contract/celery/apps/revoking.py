"""The app of `tasks` with our revoke: ids that begin with `run-` are runs."""

from tests.contract.celery.apps.tasks import app, board
from workers import control

__all__ = ["app"]


def ask_runs_to_cancel(ids: list[str]) -> dict[str, control.Said]:
    runs = {each for each in ids if each.startswith("run-")}
    for each in runs:
        if each.startswith("run-broken-"):
            raise ConnectionError("redis is away")
        if each.startswith("run-slow-"):
            board.gate_sync(each)
        board.mark_sync(each, "cancel")
    return {each: "over" if each.startswith("run-over-") else "asked" for each in runs}


control.install(ask_runs_to_cancel)
