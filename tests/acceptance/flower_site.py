"""Flower as its users see it: over HTTP, with a name and a password."""

import base64
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.acceptance.cluster import Cluster, Process
from tests.waiting import eventually
from workers.cli.stack import free_port

USER = "operator:a-password-4c1d"
COMMAND = (sys.executable, "-m", "workers.cli", "flower")


@dataclass
class Site:
    """A Flower that is up."""

    process: Process
    port: int

    def ask(self, path: str, body: Any = None, user: str = USER) -> tuple[int, str]:
        """GET, or POST when there is a body; return status and text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        if user:
            request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    def json(self, path: str, body: Any = None) -> Any:
        status, text = self.ask(path, body)
        assert status == 200, (path, status, text)
        return json.loads(text)

    def task(self, run_id: str) -> dict[str, Any]:
        status, text = self.ask(f"/api/task/info/{run_id}")
        return dict(json.loads(text)) if status == 200 else {"state": None}

    def shows(self, run_id: str, state: str, within: float = 60.0) -> dict[str, Any]:
        """Wait until it shows the run in this state; return what it shows."""
        return eventually(lambda: (task := self.task(run_id))["state"] == state and task, within=within)

    def terminate(self, run_id: str) -> str:
        """Do what the button of the task's page does; return what the page then says."""
        return str(self.json(f"/api/task/revoke/{run_id}?terminate=true", {})["message"])

    def everything(self, *run_ids: str, worker: str) -> dict[str, str]:
        """Return every page and answer that could show something of these runs."""
        order = "draw=1&start=0&length=100&order[0][column]=0&columns[0][data]=name&search[value]="
        of_runs = [path + run_id for run_id in run_ids for path in ("/task/", "/api/task/info/", "/api/task/result/")]
        general = ["/", "/tasks", "/broker", "/workers?json=1", f"/tasks/datatable?{order}", "/api/tasks", "/metrics"]
        of_workers = [f"/api/workers?refresh=1&workername={worker}", f"/worker/{worker}", "/api/task/types"]
        return {path: self.ask(path)[1] for path in (*general, *of_workers, *of_runs)}


def start_flower(cluster: Cluster, **env: str) -> Site:
    port = free_port()
    given = {"FW_FLOWER_AUTH": USER, "FW_FLOWER_PORT": str(port), **env}
    return Site(cluster.start("flower", *COMMAND, **given).ready("flower.listening"), port)


def leaks(pages: dict[str, str], *secrets: str) -> list[tuple[str, str]]:
    """Return where which secret is to be read."""
    return [(path, secret) for path, text in pages.items() for secret in secrets if secret in text]
