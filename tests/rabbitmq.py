"""The RabbitMQ that was given for tests. Queue names are fixed, so each cluster has a virtual host of its own."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from urllib.parse import urlsplit, urlunsplit

RABBITMQ_VARIABLE = "FW_TEST_RABBITMQ_URL"
_CTL_WITHIN_S = 60.0


def given_rabbitmq(environ: Mapping[str, str]) -> str | None:
    """The url of the server that the caller of the tests set aside, or None."""
    return environ.get(RABBITMQ_VARIABLE) or None


def why_no_vhosts(environ: Mapping[str, str]) -> str:
    """Say why no virtual host can be made, or nothing."""
    return _why_no_vhosts() if given_rabbitmq(environ) else f"{RABBITMQ_VARIABLE} is not set"


@cache
def _why_no_vhosts() -> str:
    if not shutil.which("rabbitmqctl"):
        return "a virtual host of one's own needs rabbitmqctl, which is not on this machine's PATH"
    try:
        ctl("list_vhosts")
    except subprocess.SubprocessError as exc:
        return f"a virtual host of one's own needs rabbitmqctl, which may not be used here: {exc}"
    return ""


@contextmanager
def vhost(server: str) -> Iterator[str]:
    """Yield the url of a new virtual host, empty; delete it at the end."""
    name = f"fw_test_{uuid.uuid4().hex[:12]}"
    parts = urlsplit(server)
    ctl("add_vhost", name)
    try:
        ctl("set_permissions", "-p", name, parts.username or "guest", ".*", ".*", ".*")
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        ctl("delete_vhost", name)


def name_of(url: str) -> str:
    """Return the virtual host of a url of `vhost`."""
    return urlsplit(url).path.removeprefix("/")


def close_connections(url: str) -> None:
    """Have the server close every connection of a virtual host, as an operator would."""
    ctl("close_all_connections", "-p", name_of(url), "a test")


def ctl(*command: str) -> str:
    """Run rabbitmqctl; return what it printed."""
    done = subprocess.run(
        ["rabbitmqctl", "-q", *command], capture_output=True, text=True, timeout=_CTL_WITHIN_S, check=True
    )
    return done.stdout
