"""The stand-in's batch part: datasets, batch inference jobs and signed URLs (WIRE 3), on virtual time.

    slow = BatchRule(when=BatchWhen(operation="create_job"), faults=("fail_rows=3", "rows_done=50%"))
    running = await serve(EmulatorConfig(batch=BatchConfig(speed=0, rules=(slow,))))
    ...                                     # calls to f"{running.api_url}/v1/accounts/{account}/..."
    running.clock.advance(480)              # eight minutes later

How a batch is made, module by module:

    routes         the server's side: keys, faults, counting; `calls` is one call
    dataset_desk   answers the calls about datasets, `job_desk` those about jobs; `messages` reads what they are sent,
                   `listing` pages, `refusals` are their errors
    storage        signed URLs: PUT, GET with ranges
    books          what is known by account and id, the folder of the files, and the one task that works on rows
    jobs           a job's resource at any time; `schedule` is its life, on the virtual time of `clock`
    preparation    answers the rows ahead of that time: `rows` reads and judges them, `answers` asks the machinery of
                   chat completions, `fates` and `faults` spoil some, `ledger` keeps count

A job's state is computed from when it was made, its plan and now; no task waits for it. Rows are answered as fast as
the machine can, and told as fast as virtual time allows: jobProgress, and the files of a job that ends early, have what
would have been done by then. Files are on disk, rows in memory one at a time. `faults.GUIDE` lists what can go wrong.
"""

from workers.emulator.batch.clock import VirtualClock
from workers.emulator.batch.config import OPERATIONS, BatchConfig, BatchRule, BatchWhen
from workers.emulator.batch.state import BatchStats

__all__ = ["OPERATIONS", "BatchConfig", "BatchRule", "BatchStats", "BatchWhen", "VirtualClock"]
