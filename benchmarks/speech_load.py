"""The load of P3 and P4: a bare Redis client that writes 50 ms of audio for every session every 50 ms, then hangs up.

Reads its orders as JSON from standard input, says `speaking` when it begins, and at the end when it wrote how much.
"""

import json
import struct
import sys
import time
from typing import Any

from redis.connection import ConnectionPool

from benchmarks.speech_voices import CHUNK_S, chunk, voice_of

_SLOTS = 10
"""The sessions speak at ten moments of each 50 ms: no two chunks of a microphone come at once, and no 200."""

_STAMP = struct.Struct("<d")
_KEEP = 1000
"""Entries that a stream keeps at most, 50 s: the bare loop does not trim."""


def _append(wire: Any, key: str, field: str, value: bytes | str) -> list[bytes]:
    packed: list[bytes] = wire.pack_command("XADD", key, "MAXLEN", "~", _KEEP, "*", field, value)
    return packed


def _write(wire: Any, commands: list[list[bytes]]) -> None:
    wire.send_packed_command([part for command in commands for part in command])
    for _ in commands:
        wire.read_response()


def _speak(wire: Any, keys: list[str], seconds: float, *, stamped: bool) -> list[tuple[float, float, int]]:
    """Write in real time; return for each write when it was done, when it was due, and how many chunks it wrote.

    A stamp is the time just before the chunk is written.
    """
    began, written = time.time(), []
    for tick in range(round(seconds / CHUNK_S) * _SLOTS):
        due = began + tick * CHUNK_S / _SLOTS
        if (wait := due - time.time()) > 0:
            time.sleep(wait)
        number, slot = divmod(tick, _SLOTS)
        commands = []
        for session in range(slot, len(keys), _SLOTS):
            pcm = chunk(voice_of(session), number)
            if stamped:
                pcm = _STAMP.pack(time.time()) + pcm[_STAMP.size :]
            commands.append(_append(wire, keys[session], "a", pcm))
        if commands:
            _write(wire, commands)
            written.append((time.time(), due, len(commands)))
    return written


def main() -> None:
    """Do as ordered: `redis`, `keys` of the audio streams, `seconds`, `stamped`."""
    orders = json.load(sys.stdin)
    wire: Any = ConnectionPool.from_url(orders["redis"]).get_connection()
    print("speaking", flush=True)
    written = _speak(wire, orders["keys"], orders["seconds"], stamped=orders["stamped"])
    _write(wire, [_append(wire, key, "c", '{"type":"end"}') for key in orders["keys"]])
    print(json.dumps(written), flush=True)


if __name__ == "__main__":
    main()
