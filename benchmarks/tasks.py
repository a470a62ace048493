"""The service's own app with one more task: the floor that P1 compares with, on the same pool."""

from workers.app import app
from workers.pool import LoopTask


@app.task(name="bench.noop", base=LoopTask)
async def noop() -> None:
    """Do nothing."""
