"""P5: CPU and memory of the worker per batch, against the barest code that moves the same rows and bytes (design 7).

    .venv/bin/python -m benchmarks.p5_batch_cpu [--quick] [--rows 20000]

Rows go in by a file and come back through the stand-in's batch service; the stand-in, the poller and Redis are not
counted. The floor runs in the same run on the same rows and the same answers (`batch_floor`). On SQLite.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from celery import Celery

from api_contracts.client import Client
from api_contracts.names import BATCH_POLL, CONTROL_QUEUE
from benchmarks.cpu import cpu_s, rss_mb, spread
from benchmarks.stand import Stand, stand
from workers.cli.stack import stack

_MODEL = "accounts/fireworks/models/emulated-classic"
_SCENE = {
    "name": "p5",
    "rules": [{"when": {"user_regex": "^row "}, "reply": {"text": "a short answer"}, "pace": 0}],
    "batch": {"speed": 60, "states": "VALIDATING:1/RUNNING:60/COMPLETED"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="two thousand rows, once")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    count, times = (2000, 1) if given.quick else (given.rows, given.times)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with stack(folder, emulate=True) as parts:
            parts.env.update({"FW_POLL_S": "1", "FW_STATE_DIR": str(folder)})
            with stand(parts) as on:
                on.start_emulator(folder, _SCENE)
                on.start_worker("control", concurrency=4)
                pid = on.start_worker("batch", concurrency=10)
                _measure(on, pid, folder, count, times)


def _measure(on: Stand, pid: int, folder: Path, count: int, times: int) -> None:
    _run(on, pid, folder, 200)  # whatever is imported and compiled once
    ratios, ours, floors, peaks = [], [], [], []
    for _ in range(times):
        rows, spent, peak, answers = _run(on, pid, folder, count)
        command = [sys.executable, "-m", "benchmarks.batch_floor", str(rows), str(answers)]
        floor = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ratios.append(spent / floor)
        ours.append(spent / count)
        floors.append(floor / count)
        peaks.append(peak)
    print(f"{count} rows, {times} times, median (range):")
    print(f"  worker                {spread(ours, ' us a row', 1e6)}")
    print(f"  floor                 {spread(floors, ' us a row', 1e6)}")
    print(f"  P5                    {spread(ratios)}, goal 2.0")
    print(f"  peak RSS of the worker {spread(peaks, ' MB')}, goal 200")


def _run(on: Stand, pid: int, folder: Path, count: int) -> tuple[Path, float, float, Path]:
    """Run one batch; return the input, the worker's CPU, its peak memory, and the answers as a file."""
    rows, answers = folder / "rows.jsonl", folder / "answers.jsonl"
    with rows.open("w") as file:
        for number in range(count):
            body = {"messages": [{"role": "user", "content": f"row {number} " + "lorem ipsum " * 20}], "max_tokens": 64}
            file.write(json.dumps({"custom_id": f"r{number}", "body": body}) + "\n")
    done, peak = threading.Event(), [rss_mb(pid)]

    def tick() -> None:
        with Celery(broker=on.env["FW_REDIS_URL"], backend="disabled", set_as_current=False) as app:
            while not done.wait(0.5):
                peak[0] = max(peak[0], rss_mb(pid))
                app.send_task(BATCH_POLL, queue=CONTROL_QUEUE, expires=5)

    ticking = threading.Thread(target=tick)
    with Client(redis_url=on.env["FW_REDIS_URL"], database_url=on.env["FW_DATABASE_URL"]) as client:
        began = cpu_s(pid)
        ticking.start()
        try:
            result = client.batch.complete(model=_MODEL, file=str(rows), shard_rows=1_000_000, timeout_s=900)
        finally:
            done.set()
            ticking.join()
        spent = cpu_s(pid) - began
        if result.rows.succeeded != count:
            raise RuntimeError(f"{result.rows} of {count}: {result.failure}")
        with answers.open("w") as file:
            for row in client.batch.rows(result.run_id):
                file.write(json.dumps({"custom_id": row.custom_id, "response": row.response}) + "\n")
    return rows, spent, peak[0], answers


if __name__ == "__main__":
    main()
