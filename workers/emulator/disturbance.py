"""The faults that strike a stream: frames in, frames out, bytes in, byte pieces out. Pure."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from workers.emulator.faults import Faults
from workers.emulator.sse import Chunk, Frame, Hangup, Pause, Raw, dumps

_EVERY = 4  # chunks between one disturbance and the next
_COMMENTS = ": still here\n\n:\n\nevent: heartbeat\ndata: {}\n\n"
_PING = 'event: ping\ndata: {"type": "ping"}\n\n'


def disturb(frames: Iterator[Frame], faults: Faults) -> Iterator[Frame]:
    """The stream under its faults."""
    stream = _edited(_endless(frames) if faults.has("endless") else frames, faults)
    extra = _extras(faults)
    if extra:
        stream = _sprinkled(stream, extra)
    if faults.slow_first_token:
        stream = _late(stream, faults.slow_first_token)
    for after, ending in _endings(faults):
        stream = _ended(stream, after, ending)
    return stream


def _edited(frames: Iterator[Frame], faults: Faults) -> Iterator[Frame]:
    opened = False
    for frame in frames:
        if isinstance(frame, Raw) and frame.part == "done" and faults.has("no_done"):
            continue
        if isinstance(frame, Chunk) and frame.part == "finish":
            if faults.has("no_finish"):
                continue
            if faults.has("json_body_truncated"):
                whole = dumps(frame.payload)
                yield Raw(f"data: {whole[: len(whole) // 2]}\n\n")
                continue
        yield frame
        if not opened and faults.has("empty_choices") and isinstance(frame, Chunk):
            opened = True
            yield Chunk(frame.payload | {"choices": []})


def _endless(frames: Iterator[Frame]) -> Iterator[Frame]:
    last: Frame | None = None
    for frame in frames:
        while isinstance(frame, Chunk) and frame.part == "finish" and last is not None:
            yield last
        yield frame
        last = frame


def _extras(faults: Faults) -> str:
    return (_COMMENTS if faults.has("comments") else "") + (_PING if faults.has("event_ping") else "")


def _sprinkled(frames: Iterator[Frame], text: str) -> Iterator[Frame]:
    for position, frame in enumerate(frames):
        if position % _EVERY == 0:
            yield Raw(text)
        yield frame


def _late(frames: Iterator[Frame], seconds: float) -> Iterator[Frame]:
    yield Pause(seconds)
    yield from frames


def _endings(faults: Faults) -> list[tuple[int, tuple[Frame, ...]]]:
    error = {
        "message": "The model failed in mid-stream",
        "type": "internal_server_error",
        "code": "INTERNAL",
        "status": 500,
    }
    as_data = Raw(f"data: {dumps({'error': error})}\n\n")
    as_event = Raw(f"event: error\ndata: {dumps({'error': error})}\n\n")
    given = (
        (faults.stall_after, (Pause(None),)),
        (faults.stream_error_after, (as_data,)),
        (faults.stream_error_event_after, (as_event,)),
        (faults.cut_after, (Hangup(),)),
    )
    return [(after, ending) for after, ending in given if after is not None]


def _ended(frames: Iterator[Frame], after: int, ending: tuple[Frame, ...]) -> Iterator[Frame]:
    """The stream until `after` tokens have been sent, then the ending. A shorter stream ends as it would."""
    sent = 0
    for frame in frames:
        due = isinstance(frame, Chunk | Raw) and frame.part not in ("opening", "extra")
        if sent >= after and due:
            yield from ending
            return
        sent += frame.tokens if isinstance(frame, Chunk) else 0
        yield frame


def cutter(faults: Faults) -> Callable[[bytes], list[bytes]]:
    """How an encoded event is split into writes, and which line ends it has."""

    def cut(event: bytes) -> list[bytes]:
        # JSON escapes its own line ends, so every LF here is one of the stream's.
        whole = event.replace(b"\n", b"\r\n") if faults.has("crlf") else event
        if faults.drip:
            return [whole[place : place + 1] for place in range(len(whole))]
        return split_inside_characters(whole) if faults.has("split_utf8") else [whole]

    return cut


def split_inside_characters(data: bytes) -> list[bytes]:
    """Pieces that end inside every multi-byte character, or once in the middle if there is none."""
    cuts = [place + 1 for place, byte in enumerate(data[:-1]) if byte >= 0xC0] or [len(data) // 2]
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]
