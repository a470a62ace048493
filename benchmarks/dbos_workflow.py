"""P6's peer: a queued workflow with one step on DBOS. Run by the Python of an environment that has `dbos`.

Arguments: PostgreSQL's URL, the interval of polling in seconds, how many times. Prints seconds, a line each: from
before the enqueueing to the workflow's result. Both are in this process: DBOS crosses none.
"""

import sys
import time

from dbos import DBOS, DBOSConfig


@DBOS.step()
def look() -> str:
    """Do nothing."""
    return "there"


@DBOS.workflow()
def call() -> str:
    """Take the step."""
    return look()


def main() -> None:
    """Print each time."""
    url, interval_s, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    DBOS(config=DBOSConfig(name="bench", system_database_url=url, log_level="ERROR"))
    DBOS.launch()
    queue = DBOS.register_queue(f"look-{interval_s}", polling_interval_sec=interval_s)  # kept in the database
    for _ in range(count):
        began = time.perf_counter()
        queue.enqueue(call).get_result(polling_interval_sec=interval_s)
        print(time.perf_counter() - began, flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
