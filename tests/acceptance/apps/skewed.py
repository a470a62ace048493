"""Our workers' app on a machine whose wall clock is wrong by `SKEW_S` seconds (`celery -A` this module)."""

import os
import time

_right = time.time
time.time = lambda: _right() + float(os.environ["SKEW_S"])

from workers.app import app  # noqa: E402 - whatever it brings must see the wrong clock

__all__ = ["app"]
