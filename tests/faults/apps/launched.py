"""A Celery worker whose wall clock can be stepped from outside: the file `clock-PID` holds seconds to add.

Only `time.time` is moved: what counts elapsed time is monotonic, here as on a machine whose clock is set.
"""

import os
import sys
import threading
import time
from pathlib import Path

_real = time.time
_TICK_S = 0.1
_shift = 0.0


def _shifted() -> float:
    return _real() + _shift


def _watch(path: Path) -> None:
    global _shift
    while True:
        threading.Event().wait(_TICK_S)
        try:
            _shift = float(path.read_text())
        except (OSError, ValueError):  # nobody has set it, or is just doing so
            continue


def main() -> None:
    """Patch, then become `celery` with this command line."""
    time.time = _shifted
    path = Path(os.environ["FAULTS_FOLDER"]) / f"clock-{os.getpid()}"
    threading.Thread(target=_watch, args=(path,), daemon=True).start()
    from celery.__main__ import main as celery

    sys.argv[0] = "celery"
    celery()


if __name__ == "__main__":
    main()
