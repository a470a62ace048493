"""What the control plane knows: datasets and jobs by account and id, the folder of their files, and who works on rows.

Touched by the server's event loop only. Rows are worked on by one task for all jobs, oldest job first, and by calls
that want to see a job whose rows are due.
"""

import asyncio
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from workers.emulator.batch.clock import VirtualClock
from workers.emulator.batch.config import BatchConfig
from workers.emulator.batch.datasets import Dataset, StoredFile
from workers.emulator.batch.jobs import Job
from workers.emulator.batch.preparation import ERROR_NAME, OUTPUT_NAME
from workers.emulator.batch.rows import InputFile
from workers.emulator.batch.schedule import CLEANING_UP, FINAL, GONE

_SLICE_S = 0.004  # other connections get their turn in between


class Folder:
    """The files of one server, in a folder that is made when first needed and removed at the end."""

    def __init__(self, parent: Path | None) -> None:
        self._parent = parent
        self._root: Path | None = None
        self._numbers = count(1)

    def new(self) -> Path:
        """A path that is not taken."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="fireworks-emulator-", dir=self._parent))
        return self._root / f"{next(self._numbers):06d}"

    def new_folder(self) -> Path:
        """An empty folder."""
        path = self.new()
        path.mkdir()
        return path

    def remove(self) -> None:
        """Remove everything."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None


def linked(files: Sequence[InputFile], folder: Path) -> list[InputFile]:
    """The same files under paths in a folder, so that they outlive their dataset. Nothing is copied."""
    made = []
    for number, file in enumerate(files):
        path = folder / f"input-{number}"
        os.link(file.path, path)
        made.append(InputFile(file.name, path, file.size))
    return made


class Books:
    """Datasets and jobs of a server."""

    def __init__(self, config: BatchConfig, clock: VirtualClock) -> None:
        self.config = config
        self.clock = clock
        self.folder = Folder(config.folder)
        self.datasets: dict[tuple[str, str], Dataset] = {}
        self.jobs: dict[tuple[str, str], Job] = {}
        self._waiting: deque[Job] = deque()
        self._worker: asyncio.Task[None] | None = None

    def dataset(self, account: str, dataset_id: str) -> Dataset | None:
        """A dataset that can be found now."""
        found = self.datasets.get((account, dataset_id))
        return found if found is not None and found.visible_from <= self.clock.now() else None

    def job(self, account: str, job_id: str) -> Job | None:
        """A job that is not gone."""
        found = self.jobs.get((account, job_id))
        return None if found is None or found.planned(self.clock.now()).state == GONE else found

    def taken(self, account: str, dataset_id: str) -> bool:
        """Whether an id is a dataset's, or promised to a job's output."""
        now = self.clock.now()
        promised = any(
            (job.account, job.output_id) == (account, dataset_id) and job.planned(now).state != CLEANING_UP
            for job in self._unfinished()
        )
        return promised or (account, dataset_id) in self.datasets

    def enter(self, job: Job) -> None:
        """Take over a new job, and begin with its rows."""
        self.jobs[job.account, job.id] = job
        self._waiting.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
            self._worker.add_done_callback(_raise_what_it_raised)

    async def catch_up(self, jobs: Iterable[Job]) -> None:
        """Answer what is due in these jobs, as long as patience lasts, and conclude those that are over."""
        loop = asyncio.get_running_loop()
        now, end = self.clock.now(), loop.time() + self.config.patience_s
        for job in list(jobs):
            more = not job.concluded
            while more and job.behind(now) and loop.time() < end:
                more = job.preparation.work(_SLICE_S)
                await _yield_to_others()
            self._conclude(job, now)

    async def refresh(self, account: str) -> None:
        """The same for everything in an account that is not over."""
        await self.catch_up(job for job in self._unfinished() if job.account == account)

    def drop_dataset(self, dataset: Dataset) -> None:
        """Delete a dataset and its files."""
        self.datasets.pop((dataset.account, dataset.id), None)
        for file in dataset.files.values():
            file.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Everything is gone, at once."""
        for job in self.jobs.values():
            job.preparation.stop()
        self._waiting.clear()
        self.datasets.clear()
        self.jobs.clear()
        self.folder.remove()

    async def close(self) -> None:
        """End the work and remove the files."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self.forget()

    def _unfinished(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.concluded]

    async def _work(self) -> None:
        while self._waiting:
            if not self._waiting[0].preparation.work(_SLICE_S):
                self._waiting.popleft()
            await _yield_to_others()

    def _conclude(self, job: Job, now: float) -> None:
        """What follows from a job's end: its output can be found; of a deleted one nothing else is left."""
        planned = job.planned(now)
        state = "DELETED" if planned.state == GONE else planned.state
        if job.concluded or state not in FINAL:
            return
        if state in self.config.usable_outputs and job.ran and not job.published:
            if job.behind(now):
                return
            self._publish(job, now)
        if planned.state == GONE:
            job.preparation.remove(keep_output=job.published)
        job.concluded = True

    def _publish(self, job: Job, now: float) -> None:
        totals = job.preparation.ledger.totals(job.rows(now))
        ended = job.created + job.planned(now).since
        job.published = True
        self.datasets[job.account, job.output_id] = Dataset(
            account=job.account,
            id=job.output_id,
            created=job.created,
            created_by=job.created_by,
            encryption_state=self.config.encryption_state,
            example_count=totals.lines,
            output_of=job.name,
            visible_from=ended + job.faults.output_after,
            updated=ended,
            ready_at=ended,
            files={
                OUTPUT_NAME: StoredFile(job.preparation.output, totals.output_bytes),
                ERROR_NAME: StoredFile(job.preparation.errors, totals.error_bytes),
            },
        )


async def _yield_to_others() -> None:
    await asyncio.sleep(0)


def _raise_what_it_raised(task: "asyncio.Task[None]") -> None:
    """A defect of ours is reported at once, by the loop's exception handler."""
    if not task.cancelled():
        task.result()
