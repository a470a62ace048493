"""Which state a job is in at which age, decided when it is made. Pure: no clock, no task, no job.

A plan is a list of steps in virtual seconds; its last step is for ever. Whatever ends a job early (expiry, a failed
validation, a cancel, a DELETE) cuts the plan and appends other steps; what has passed never changes.
"""

import re
from dataclasses import dataclass
from itertools import accumulate
from math import inf

RUNNING, FAILED, EXPIRED = "RUNNING", "FAILED", "EXPIRED"
CLEANING_UP, GONE = "DELETING_CLEANING_UP", "GONE"  # GONE is no state: the job is not found any more
FINAL = frozenset({"COMPLETED", FAILED, EXPIRED, "EARLY_STOPPED", "CANCELLED", "DELETED", "ARCHIVED"})
_BEFORE_RUNNING = frozenset({"VALIDATING", "CREATING_INPUT_DATASET"})
_STATE = re.compile(r"[A-Z][A-Z_]*")


@dataclass(frozen=True)
class Amount:
    """So many rows, or so many per cent of them."""

    number: float
    percent: bool = False

    def of(self, total: int) -> int:
        """How many that is."""
        return min(total, round(total * self.number / 100) if self.percent else int(self.number))


ALL = Amount(100, percent=True)


@dataclass(frozen=True)
class Step:
    """A state and how long it lasts. Rows are answered while `works`."""

    state: str
    seconds: float = inf
    works: bool = False


@dataclass(frozen=True)
class Moment:
    """Where a job stands: its state, the age at which that began, how many seconds it has worked on rows."""

    state: str
    since: float
    worked_s: float


@dataclass(frozen=True)
class Plan:
    """The steps of a job, and the seconds in which it would answer `answers` of its rows, were it left alone."""

    steps: tuple[Step, ...]
    work_s: float
    answers: Amount = ALL

    def at(self, age: float) -> Moment:
        """Where the job stands at an age."""
        begins = worked = 0.0
        for step in self.steps[:-1]:
            if age < begins + step.seconds:
                return Moment(step.state, begins, worked + (age - begins if step.works else 0.0))
            begins += step.seconds
            worked += step.seconds if step.works else 0.0
        last = self.steps[-1]
        return Moment(last.state, begins, worked + (age - begins if last.works else 0.0))

    def cut(self, age: float, *then: Step) -> "Plan":
        """The plan until an age, and from there on other steps. After its end, the end goes on until then."""
        kept, begins = [], 0.0
        for step in self.steps:
            if begins >= age:
                break
            kept.append(Step(step.state, min(step.seconds, age - begins), step.works))
            begins += step.seconds
        return Plan((*kept, *then), self.work_s, self.answers)

    def rows(self, moment: Moment, total: int) -> int:
        """How many of the rows are answered."""
        return int(self.answers.of(total) * min(1.0, moment.worked_s / self.work_s) + 1e-6)

    def most_rows(self, total: int) -> int:
        """How many of the rows will ever be answered."""
        return self.rows(self.at(sum(step.seconds for step in self.steps[:-1]) + self._tail()), total)

    def age_of_row(self, position: int, total: int) -> float:
        """The age at which the row in this place of the order is answered, if the job gets there."""
        wanted = (position + 1) / max(1, self.answers.of(total)) * self.work_s
        begins = 0.0
        for step in self.steps:
            if step.works:
                if wanted <= step.seconds:
                    return begins + wanted
                wanted -= step.seconds
            begins += step.seconds if step.seconds < inf else 0.0
        return begins

    def first(self, state: str) -> float | None:
        """The age at which a state first begins, None if never."""
        return next((begins for step, begins in self._begun() if step.state == state), None)

    @property
    def validated(self) -> float:
        """The age at which the input has been looked through."""
        ends = 0.0
        for step, begins in self._begun():
            if step.state not in _BEFORE_RUNNING:
                break
            ends = begins + step.seconds
        return ends

    @property
    def end(self) -> float:
        """The age at which a final state begins, infinite if none does."""
        last, begins = list(self._begun())[-1]
        return begins if last.state in FINAL or last.state == GONE else inf

    def _begun(self) -> list[tuple[Step, float]]:
        begins = accumulate((step.seconds for step in self.steps[:-1]), initial=0.0)
        return list(zip(self.steps, begins, strict=True))

    def _tail(self) -> float:
        return self.work_s if self.steps[-1].works else 0.0


def read_plan(script: str, answers: Amount = ALL, stuck: str | None = None) -> Plan:
    """A plan from `VALIDATING:60/RUNNING:120/COMPLETED`. Raises ValueError.

    Every step but the last has seconds, RUNNING at least a millisecond. `JOB_STATE_` before a name is allowed, names
    that nobody knows are, and GONE is a job that cannot be found. `stuck` names a state of the script that never ends.
    """
    written = [_step(text) for text in script.split("/")]
    if [step.seconds == inf for step in written] != [False] * (len(written) - 1) + [True]:
        raise ValueError(f"all states but the last have seconds: {script!r}")
    work = sum(step.seconds for step in written if step.works and step.seconds < inf)
    if stuck is not None:
        names = [step.state for step in written]
        if stuck not in names:
            raise ValueError(f"stuck in {stuck}, which the job does not come to")
        place = names.index(stuck)
        written[place:] = [Step(stuck, inf, works=stuck == RUNNING)]
    return Plan(tuple(written), work or 60.0, answers)


def _step(text: str) -> Step:
    name, _, seconds = text.strip().partition(":")
    state = name.removeprefix("JOB_STATE_")
    if not _STATE.fullmatch(state):
        raise ValueError(f"not a state: {text!r}")
    try:
        lasts = float(seconds) if seconds else inf
    except ValueError:
        lasts = -1.0
    if not lasts >= 0:
        raise ValueError(f"not a number of seconds: {text!r}")
    works = state == RUNNING
    return Step(state, max(lasts, 0.001) if works else lasts, works)
