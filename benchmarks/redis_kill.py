"""What a Redis that is killed forgets of what it had acknowledged, by `appendfsync`.

Writers append numbers to streams, as many at a time as a server takes, and note each answer. The server gets SIGKILL at
a moment of chance and starts again over its file. Lost is what was answered and is not there; `ms` is how long before
the kill the oldest of it was answered. `--sync-s 1.5` makes every sync of the file last so long, as a disk that is
overloaded does (it needs a C compiler). A killed host is another thing: it also forgets what the kernel had kept.
Run: .venv/bin/python -m benchmarks.redis_kill [--kills 20] [--sync-s 1.5]
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from redis import Redis, RedisError

from workers.cli.embedded import EmbeddedValkey

WRITERS, PIPELINE, BYTES = 4, 20, 2_000


class Writer(threading.Thread):
    """Appends until the server is gone."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.answered: list[float] = []
        self._redis = Redis.from_url(url, socket_timeout=5)

    def run(self) -> None:
        """Note when each entry was answered."""
        try:
            while True:
                pipe = self._redis.pipeline(transaction=False)
                for _ in range(PIPELINE):
                    pipe.xadd(self.key, {"data": "x" * BYTES})
                pipe.execute()
                self.answered += [time.monotonic()] * PIPELINE
        except (RedisError, OSError):
            self._redis.close()


def slow_disk(folder: Path, sync_s: float) -> None:
    """Have the servers that are started from now on wait in each sync."""
    source, library = folder / "slow.c", folder / "slow.so"
    wait = f"int {{}}(int fd) {{{{ usleep({int(sync_s * 1e6)}); return 0; }}}}"
    source.write_text("\n".join(["#include <unistd.h>", wait.format("fdatasync"), wait.format("fsync")]))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    os.environ["LD_PRELOAD"] = str(library)


def killed_once(sync: str) -> tuple[int, int, float]:
    """Return how many entries were answered, how many of them are lost, and since how many milliseconds."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, EmbeddedValkey.start(Path(name) / "valkey") as server:
        with Redis.from_url(server.url) as redis:
            redis.config_set("appendfsync", sync)
        writers = [Writer(server.url, f"kill:{number}") for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(random.uniform(2.0, 6.0))
        at = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        for writer in writers:
            writer.join()
        server.restart()
        with Redis.from_url(server.url, socket_timeout=60) as redis:
            there = [int(redis.xlen(writer.key)) for writer in writers]
    lost = [writer.answered[count:] for writer, count in zip(writers, there, strict=True)]
    oldest = min((each[0] for each in lost if each), default=at)
    return sum(len(writer.answered) for writer in writers), sum(map(len, lost)), (at - oldest) * 1e3


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sync-s", type=float, default=0.0)
    given = parser.parse_args()
    print(f"{given.kills} kills each; a sync takes {f'{given.sync_s} s' if given.sync_s else 'what the disk takes'}")
    with tempfile.TemporaryDirectory() as folder:
        if given.sync_s:
            slow_disk(Path(folder), given.sync_s)
        for sync in ("always", "everysec", "no"):
            show(sync, given.kills)


def show(sync: str, kills: int) -> None:
    """Kill so often, and print the line."""
    found = [killed_once(sync) for _ in range(kills)]
    losses = [each for each in found if each[1]]
    worst = max((ms for _, _, ms in losses), default=0.0)
    print(
        f"{sync:9} {sum(each[0] for each in found):9} answered, {sum(each[1] for each in found):7} lost"
        f" in {len(losses)} of {len(found)} kills; the oldest {worst:.0f} ms before its kill"
    )


if __name__ == "__main__":
    main()
