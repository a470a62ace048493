"""What a shard needs next: an effect now, a look later, or nothing. Decides, and changes nothing.

    planned     create the dataset, upload the rows        (adopted READY: nothing to upload)
    uploaded    wait until it is READY, create the job
    submitted   wait for news; look when the poller has none for too long; stop a job that never ends
    over        read what it left, whatever it ended as

When the run is being ended, nothing is begun: jobs are stopped, and what they finished is still read.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.batch import BatchParameters, BatchRequest
from api_contracts.batch_rows import RowState
from workers.core.batch import acts, ids, jobs, pace
from workers.core.batch.acts import Verdict
from workers.core.batch.state import BatchState, Shard
from workers.core.runs.frame import Effect

MOST_DIRECT: Final = 150_000_000
"""Bytes that one direct upload takes (WIRE 3.3)."""

MOST_SPLITS: Final = 64
"""Jobs that are cut in two, in one run, to find rows that the provider will not take."""

_READY_EVERY_S: Final = 60.0
_ENDING_EVERY_S: Final = 15.0

_WIRE_NAMES: Final = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "n",
}

_LEFT_OPEN: Final = {
    jobs.COMPLETED: ("missing_output", "the job is completed, but its files do not speak of the row"),
    jobs.EXPIRED: ("job_expired", "the job expired before it came to the row"),
    jobs.STOPPED_EARLY: ("job_stopped_early", "the provider stopped the job before it came to the row"),
    jobs.FAILED: ("job_failed", "the job failed"),
}
"""States after which rows that no file speaks of are worth another attempt. Others were somebody's wish."""


@dataclass(slots=True)
class Hand:
    """What this life of the run knows of a shard beyond the journal."""

    exists: bool = False
    """The dataset is there, without its rows."""
    ready: bool = False
    stopped: bool = False
    """The provider was told to stop the job, or that is given up."""
    to_look: bool = False
    """What the stop came to is to be seen before the run parks: its next life does not know that the job was told."""
    look_at: float | None = None
    looked_at: float = 0.0
    look_failures: int = 0


Next = Effect | float | None


class Planner:
    """Plans for one run."""

    def __init__(self, run_id: str, request: BatchRequest, state: BatchState) -> None:
        self._run_id = run_id
        self._request = request
        self._state = state

    @property
    def account(self) -> dict[str, Any]:
        """Return whose run it is."""
        return self._request.account()

    def next_of(self, shard: Shard, hand: Hand, now: float) -> Next:
        """Return what the shard needs next, in the ordinary way of a run."""
        if shard.stage == "closed" or self.to_split(shard):
            return None
        if shard.retry_at is not None and now < shard.retry_at:
            return shard.retry_at
        if shard.abandoned is not None:
            return self._given_up(shard, hand)
        match shard.stage:
            case "planned":
                return self._upload(shard, hand)
            case "uploaded":
                return self._submit(shard, hand, now)
            case "submitted":
                return self._watch(shard, hand, now)
            case _:
                return self._harvest(shard)

    def last_of(self, shard: Shard, hand: Hand, now: float) -> Next:
        """Return what is still to be done about the shard when the run is being ended."""
        if shard.stage in ("planned", "closed") or (shard.stage == "uploaded" and hand.stopped):
            return None
        if shard.stage == "over" and shard.no_output:
            return None
        if shard.retry_at is not None and now < shard.retry_at:
            return shard.retry_at
        if shard.stage == "over":
            return self._harvest(shard, ending=True)
        if not hand.stopped and shard.group != "ending":
            return acts.StopJob(shard.number, self.job_of(shard))
        at = max(hand.looked_at, shard.changed_at) + _ENDING_EVERY_S
        return acts.LookAtJob(shard.number, self.job_of(shard)) if hand.to_look or now >= at else at

    def is_lost(self, shard: Shard, now: float) -> bool:
        """Return whether the job neither ends nor can be stopped."""
        if shard.stage != "submitted" or shard.submitted_at is None:
            return False
        return now >= pace.lost_at(pace.overdue_at(shard.submitted_at, shard.expires_at))

    def job_of(self, shard: Shard) -> str:
        """Return the id of the shard's job."""
        return ids.job_id(self._run_id, shard.number)

    def dataset_of(self, shard: Shard) -> str:
        """Return the id of the shard's input."""
        return ids.dataset_id(self._run_id, shard.number)

    def is_last(self, shard: Shard) -> bool:
        """Return whether its rows are not submitted again."""
        return shard.attempt >= self._request.attempts

    def to_split(self, shard: Shard) -> bool:
        """Return whether the provider refused the rows as a whole, so that each half must be tried (WIRE 3.7)."""
        return shard.stage == "over" and _is_refused(shard) and shard.rows > 1 and self._state.splits < MOST_SPLITS

    def next_ready_look(self, shard: Shard, now: float) -> float:
        """Return when to look again at a dataset that is not READY: it is within a second, or takes its time."""
        return now + min(max((now - (shard.uploaded_at or now)) / 2, 1.0), _READY_EVERY_S)

    # -- stages ----------------------------------------------------------------------------------------------------

    def _upload(self, shard: Shard, hand: Hand) -> Next:
        dataset = self.dataset_of(shard)
        if not hand.exists:
            return acts.CreateDataset(shard.number, dataset, ids.display_name(self._run_id, shard.number), shard.rows)
        return acts.Upload(shard.number, dataset, shard.bytes, signed=shard.bytes > MOST_DIRECT)

    def _submit(self, shard: Shard, hand: Hand, now: float) -> Next:
        if not hand.ready:
            if hand.look_at is not None and now < hand.look_at:
                return hand.look_at
            return acts.LookAtDataset(shard.number, self.dataset_of(shard))
        return acts.CreateJob(
            shard.number, self.job_of(shard), ids.display_name(self._run_id, shard.number), self.dataset_of(shard),
            ids.output_id(self._run_id, shard.number), self._request.model, wire_parameters(self._request.parameters),
            self._request.system_prompt,
        )  # fmt: skip

    def _watch(self, shard: Shard, hand: Hand, now: float) -> Next:
        submitted_at = shard.submitted_at or now
        overdue_at = pace.overdue_at(submitted_at, shard.expires_at)
        if now >= overdue_at and not hand.stopped and shard.group != "ending":
            return acts.StopJob(shard.number, self.job_of(shard))
        known_at = max(shard.changed_at, hand.looked_at)
        to_expiry = None if shard.expires_at is None else shard.expires_at - known_at
        done = shard.progress.processed / shard.rows
        quiet = known_at - shard.changed_at
        poll = pace.poll_s(known_at - submitted_at, quiet, done, to_expiry)
        # When a signal woke the run before its time, the looks have their time still.
        at = max(known_at + pace.fallback_s(poll, quiet), self._state.parked_until)
        if now >= at:
            return acts.LookAtJob(shard.number, self.job_of(shard))
        return min(moment for moment in (at, overdue_at, pace.lost_at(overdue_at)) if moment > now)

    def _given_up(self, shard: Shard, hand: Hand) -> Next:
        if shard.stage == "uploaded" and not hand.stopped:  # it may have been created, by a reply that was lost
            return acts.StopJob(shard.number, self.job_of(shard))
        return self._harvest(shard)

    def _harvest(self, shard: Shard, *, ending: bool = False) -> acts.HarvestJob:
        read = not (shard.no_output or shard.abandoned or _is_refused(shard))
        output = (shard.output or ids.output_id(self._run_id, shard.number)) if read else None
        verdict = None if ending else self._verdict(shard)
        return acts.HarvestJob(
            self._state.lives, shard.number, self.job_of(shard), output,
            last=verdict is None or verdict.state != "pending", rest=verdict,
        )  # fmt: skip

    def _verdict(self, shard: Shard) -> Verdict:
        again: RowState = "failed" if self.is_last(shard) else "pending"
        if shard.abandoned is not None:
            return Verdict("failed", shard.abandoned.code, shard.abandoned.message)
        if _is_refused(shard):
            state: RowState = "quarantined" if shard.rows == 1 else "failed"
            return Verdict(state, "refused_by_provider", shard.message)
        if shard.job_state in _LEFT_OPEN:
            code, message = _LEFT_OPEN[shard.job_state]
            return Verdict(again, code, f"{message}: {shard.message}" if shard.message else message)
        # Of a run that was ended and reopened, the job was stopped by us: somebody's wish, but no more.
        taken: RowState = "pending" if shard.void else "failed"
        return Verdict(taken, "job_cancelled", f"the job was taken away ({shard.job_state})")


def wire_parameters(parameters: BatchParameters) -> dict[str, Any]:
    """Return `inferenceParameters` (WIRE 3.5); empty when nothing is set."""
    said = parameters.model_dump(exclude_none=True)
    extra = said.pop("extra", None)
    wire = {_WIRE_NAMES[name]: value for name, value in said.items()}
    return wire | ({"extraBody": json.dumps(extra, separators=(",", ":"))} if extra else {})


def _is_refused(shard: Shard) -> bool:
    return shard.job_state == jobs.FAILED and shard.code == "INVALID_ARGUMENT"
