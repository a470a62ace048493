"""`transcribe`: a file or a pipe into a live session, in real time, and its words as they come.

Three threads: one speaks, the main one follows and shows, one does what Ctrl-C asks for. Only the main one ends.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console

from api_contracts.client import Session
from api_contracts.failure import AudioRefused, RunNotFound
from api_contracts.runs import Event, Status
from api_contracts.vocabulary import typed
from workers.cli import sound
from workers.cli.captions import Aside, Screen, captions_of, summary_of, table_of
from workers.cli.connecting import client
from workers.errors import Misconfigured

EXIT: Final[dict[Status, int]] = {"completed": 0, "failed": 1, "cancelled": 130}
_AGAIN_S: Final = 0.5
_LEAVE_S: Final = 0.5
"""A thread may wait for a pipe, or for Redis: after this long it is left behind."""
_HANG_UP, _CANCEL = "hanging up; Ctrl-C again cancels", "cancelling; Ctrl-C again leaves at once"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for. `options` are those of the session that were given."""

    where: str
    options: dict[str, Any]
    speed: float = 1.0
    interims: bool = False
    words: bool = False
    as_json: bool = False


def transcribe(asked: Asked) -> int:
    """Return 0 for a completed run, 1 for a failed one, 130 for a cancelled one. Raises Misconfigured."""
    screen = Screen(sys.stdout, Console(stderr=True, highlight=False, emoji=False), interims=asked.interims)
    with opened(asked.where) as pieces, client() as service:
        try:
            session = service.stt.open(**asked.options)
        except ValidationError as exc:
            raise Misconfigured("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in exc.errors())) from None
        speaker = Speaker(session, pieces, asked.speed)
        with _on_ctrl_c(session, speaker, screen), speaker:
            try:
                _follow(session, screen, as_json=asked.as_json)
            except BrokenPipeError:
                return _unread(session, screen)
        result = session.result()
        if speaker.failure:
            screen.error(speaker.failure)
    if not asked.as_json:
        if asked.words and result.words:
            screen.table(table_of(result.words))
        if result.failure:
            screen.error(f"{result.status}: {result.failure.code}: {result.failure.message}")
        screen.show(Aside(summary_of(result)))
    return 1 if speaker.failure else EXIT[result.status]


def _follow(session: Session, screen: Screen, *, as_json: bool) -> None:
    for event in session.follow():
        if as_json:
            print(event.model_dump_json(), flush=True)  # noqa: T201 - the command's output
        else:
            _show(event, screen)


def _show(event: Event, screen: Screen) -> None:
    for caption in captions_of(typed(event)):
        screen.show(caption)


def _unread(session: Session, screen: Screen) -> int:
    """End a session whose words nobody reads; the interpreter must not try to flush them either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    session.cancel("nobody reads the transcript")
    screen.show(
        Aside(f"nobody reads the transcript: cancelled; the journal: fireworks-workers runs events {session.run_id}")
    )
    return EXIT["cancelled"]


# -- what is heard -----------------------------------------------------------------------------------------------------


@contextmanager
def opened(where: str) -> Iterator[Iterator[bytes]]:
    """Yield the pieces of a WAV file, or of standard input (`-`). Raises Misconfigured, also when there is no sound."""
    if where == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise Misconfigured("nothing is piped into standard input: it takes s16le of 16000 Hz, mono, or a WAV file")
        # A reader of its own, without buffer: a thread that waits in it does not hold up the interpreter's end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            yield heard("-", pipe.read)
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(where).open("rb"))
        except OSError as exc:
            raise Misconfigured(f"cannot read {where}: {exc.strerror}") from None
        yield heard(where, file.read)


def heard(name: str, read: sound.Read) -> Iterator[bytes]:
    """Return the pieces of what is read; the first one is there already. Raises Misconfigured."""
    said = "standard input" if name == "-" else name
    try:
        head = sound.up_to(read, sound.HEAD_BYTES)
        if sound.is_wav(head):
            form = sound.read_form(read)
            if not form.is_wire_form:
                raise Misconfigured(sound.refusal(name, str(form)))
            pieces = sound.pieces(read, limit=form.limit)
        elif name == "-" or not head:
            pieces = sound.pieces(read, head)
        else:
            raise Misconfigured(sound.refusal(name, "no WAV file"))
        first = next(pieces, b"")
    except sound.NotWav as exc:
        raise Misconfigured(sound.refusal(name, f"a WAV file that cannot be read ({exc})")) from None
    except OSError as exc:
        raise Misconfigured(f"cannot read {said}: {exc.strerror}") from None
    if not first:
        raise Misconfigured(f"{said} holds no sound")
    return _with_first(first, pieces)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


# -- who speaks --------------------------------------------------------------------------------------------------------


class Speaker:
    """Speaks in a thread of its own, then hangs up. `failure` says why it could not read on."""

    def __init__(self, session: Session, pieces: Iterator[bytes], speed: float) -> None:
        self.failure = ""
        self._session = session
        self._pieces = pieces
        self._speed = speed
        self._lock = threading.Lock()
        self._stop, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._speak, name="speaker", daemon=True)

    def __enter__(self) -> "Speaker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._left.set()
        self._thread.join(_LEAVE_S)

    def hang_up(self) -> None:
        """Say no more, and end the session as after its last word. Raises RedisError."""
        self._stop.set()
        with self._lock:
            self._session.end()

    def _speak(self) -> None:
        pace = sound.Pace(self._speed, time.monotonic())
        try:
            for piece in self._pieces:
                due = pace.next(piece, time.monotonic())
                if self._stop.wait(max(0.0, due - time.monotonic())) or not self._sent(piece):
                    return
        except OSError as exc:
            self.failure = f"the sound could not be read to its end: {exc.strerror}"
        persistently(self.hang_up, self._left.is_set)

    def _sent(self, piece: bytes) -> bool:
        """Send; return False when nobody listens any more. A piece whose reply was lost is sent again: better twice."""
        heard = [False]

        def send() -> None:
            with self._lock:
                heard[0] = not self._stop.is_set() and self._session.send_audio(piece)

        persistently(send, self._stop.is_set)
        return heard[0]


def persistently(act: Callable[[], Any], enough: Callable[[], bool]) -> None:
    """Act, again and again while Redis is away. A session that is gone is the follower's to report."""
    pause = threading.Event()
    while True:
        try:
            act()
        except RunNotFound:
            return
        except Exception as exc:  # the command may end, and close the connection, while we are at it
            if enough():
                return
            if not isinstance(exc, RedisError | AudioRefused):
                raise
            pause.wait(_AGAIN_S)
        else:
            return


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@contextmanager
def _on_ctrl_c(session: Session, speaker: Speaker, screen: Screen) -> Iterator[None]:
    """Hang up at the first Ctrl-C, cancel at the second, leave at the third.

    What talks to Redis is not done in the handler, which may have interrupted just that.
    """
    pressed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    left = threading.Event()
    presses = 0

    def press(_signum: int, _frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 2:
            raise KeyboardInterrupt
        pressed.put(True)

    def obey() -> None:
        steps = [(_HANG_UP, speaker.hang_up), (_CANCEL, lambda: session.cancel("Ctrl-C"))]
        for words, act in steps:
            if not pressed.get():
                return
            screen.show(Aside(words))
            persistently(act, lambda: left.is_set() or not pressed.empty())

    obeying = threading.Thread(target=obey, name="ctrl-c", daemon=True)
    obeying.start()
    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    except KeyboardInterrupt:
        screen.show(Aside(f"left; the journal: fireworks-workers runs events {session.run_id}"))
        raise SystemExit(EXIT["cancelled"]) from None
    finally:
        signal.signal(signal.SIGINT, before)
        left.set()
        pressed.put(False)
        obeying.join(_LEAVE_S)
