"""What the provider says of a job: its states (WIRE 3.6), its counters, and how they travel in a signal.

The poller (`fireworks.batch.poll`) and the run's own look both end in a `JobView`; `letter_of` and `view_in` carry it
through the inbox as a signal of type `batch_state`. Ids in the inbox: `signal_id`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from api_contracts.batch import JobGroup
from workers.core.text import filterable

SIGNAL: Final = "batch_state"
GONE: Final = "GONE"
"""The state of a job that the provider does not know any more (404)."""
COMPLETED: Final = "COMPLETED"
EXPIRED: Final = "EXPIRED"
STOPPED_EARLY: Final = "EARLY_STOPPED"
FAILED: Final = "FAILED"

TERMINAL: Final[frozenset[JobGroup]] = frozenset({"usable", "void"})
"""Groups whose jobs never move again."""

_PREFIX: Final = "JOB_STATE_"
_GROUPS: Final[dict[JobGroup, tuple[str, ...]]] = {
    "waiting": ("VALIDATING", "PENDING", "CREATING", "CREATING_INPUT_DATASET", "CREATING_DEPENDENCIES", "UNSPECIFIED"),
    # ROLLOUT, EVALUATION and POLICY_UPDATE are of other kinds of jobs; they are known, and not the end.
    "active": ("RUNNING", "WRITING_RESULTS", "RE_QUEUEING", "IDLE", "PAUSED", "ROLLOUT", "EVALUATION", "POLICY_UPDATE"),
    "ending": ("CANCELLING", "DELETING", "DELETING_CLEANING_UP", "EXPIRED_CLEANING_UP", "FAILED_CLEANING_UP"),
    "usable": (COMPLETED, EXPIRED, STOPPED_EARLY),
    "void": (FAILED, "CANCELLED", "DELETED", "ARCHIVED", GONE),
}
_GROUP_OF: Final = {state: group for group, states in _GROUPS.items() for state in states}
_LONGEST_MESSAGE: Final = 1000


class Progress(NamedTuple):
    """A job's counters; all 0 until it works."""

    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


NOTHING_YET: Final = Progress()
_WIRE_NAMES: Final = (
    "totalProcessedRequests", "successfullyProcessedRequests", "failedRequests", "inputTokens", "outputTokens",
    "cachedInputTokenCount",
)  # fmt: skip
"""Of `Progress`, in its order (WIRE 3.5). `totalInputRequests` is left out: it echoes what we declared."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it was seen. `state` has no prefix; `code` and `message` are the provider's status when it is not OK."""

    job: str
    state: str
    progress: Progress = NOTHING_YET
    code: str = ""
    message: str = ""
    output: str = ""
    """Id of the output dataset."""
    expires_at: float | None = None
    """Seconds since 1970."""

    @property
    def group(self) -> JobGroup:
        """What the state means for us; `unknown` is not terminal."""
        return group_of(self.state)

    @property
    def is_over(self) -> bool:
        """Whether the job never moves again."""
        return self.group in TERMINAL


def group_of(state: str) -> JobGroup:
    """Return the group of a state, with or without its prefix."""
    return _GROUP_OF.get(state.removeprefix(_PREFIX), "unknown")


def job_view(resource: Mapping[str, Any]) -> JobView:
    """Read a job resource (WIRE 3.5). Whatever is missing or of another type is left out, never an error."""
    counters, status = _object(resource.get("jobProgress")), _object(resource.get("status"))
    code = _text(status.get("code"))
    return JobView(
        job=last_segment(resource.get("name")),
        state=_text(resource.get("state")).removeprefix(_PREFIX) or "UNSPECIFIED",
        progress=Progress(*(_count(counters.get(name)) for name in _WIRE_NAMES)),
        code="" if code == "OK" else code,
        message=_text(status.get("message"))[:_LONGEST_MESSAGE],
        output=last_segment(resource.get("outputDatasetId")),
        expires_at=seconds_of(resource.get("expireTime")),
    )


def gone(job: str) -> JobView:
    """Return the view of a job that is not there."""
    return JobView(job, GONE)


def is_news(before: JobView | None, after: JobView) -> bool:
    """Return whether the run should hear of it: another state, other counters, or the end."""
    return before is None or after.is_over or (before.state, before.progress) != (after.state, after.progress)


def letter_of(shard: int, view: JobView) -> dict[str, Any]:
    """Return the data of the signal."""
    return {
        "shard": shard, "job": view.job, "state": view.state, "progress": view.progress._asdict(), "code": view.code,
        "message": view.message, "output": view.output, "expires_at": view.expires_at,
    }  # fmt: skip


def signal_id(shard: int, view: JobView) -> str:
    """Return the sender's id of the signal: what was seen once is told once, whoever saw it and how often."""
    seen = "|".join(map(str, (shard, view.job, view.state, *view.progress)))
    return hashlib.sha256(seen.encode()).hexdigest()[:32]


def view_in(data: Mapping[str, Any]) -> tuple[int, JobView] | None:
    """Return the shard and the view that a signal tells of, or None for what is none. Anyone may write there."""
    shard, job, state = data.get("shard"), data.get("job"), data.get("state")
    if not isinstance(shard, int) or not isinstance(job, str) or not isinstance(state, str) or not state:
        return None
    counters, expires_at = _object(data.get("progress")), data.get("expires_at")
    view = JobView(
        job=job,
        state=state.removeprefix(_PREFIX)[:64],
        progress=Progress(*(_count(counters.get(name)) for name in Progress._fields)),
        code=_text(data.get("code"))[:64],
        message=_text(data.get("message"))[:_LONGEST_MESSAGE],
        output=_text(data.get("output"))[:256],
        expires_at=float(expires_at) if isinstance(expires_at, int | float) and 0 < expires_at < 1e11 else None,
    )
    return shard, view


def last_segment(name: Any) -> str:
    """Return the id in a full resource name."""
    return _text(name).rpartition("/")[2]


def seconds_of(stamp: Any) -> float | None:
    """Return an RFC 3339 time as seconds since 1970, or None; a time before that is one that was never set."""
    try:
        when = datetime.fromisoformat(stamp)
    except (TypeError, ValueError):
        return None
    seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return seconds if seconds > 0 else None


def _count(value: Any) -> int:
    """Read an int that may be written as a string (WIRE 3: int64)."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return filterable(value) if isinstance(value, str) else ""
