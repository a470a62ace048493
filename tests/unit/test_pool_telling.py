"""What Celery is told of a job, callback by callback."""

import threading
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import Ignore, Reject, Retry, Terminated

from workers.pool.endings import BodyAborted, Leave, OutcomeKind
from workers.pool.telling import Order, Telling


class Celery:
    """Notes what it is told."""

    def __init__(self, **order: Any) -> None:
        self.told: list[str] = []
        self.errors: list[Any] = []
        self.order = Order(
            target=len,
            accept_callback=lambda pid, at: self.told.append(f"accepted {pid}"),
            callback=lambda ending: self.told.append(f"outcome {ending[0]}"),
            error_callback=self.error,
            timeout_callback=lambda soft, seconds: self.told.append(f"timeout {soft} {seconds}"),
            **order,
        )
        self.pokes = 0
        self.telling = Telling(7, self.order, self.poke)

    def error(self, einfo: Any) -> None:
        self.told.append("error")
        self.errors.append(einfo.exception.exc)

    def poke(self) -> None:
        self.pokes += 1


def failed(error: Exception) -> tuple[int, ExceptionInfo, float]:
    """What the tracer returns for an error."""
    try:
        raise error
    except type(error):
        return 1, ExceptionInfo(), 0.1


@pytest.fixture
def celery() -> Celery:
    return Celery()


def test_accept_is_told_once_and_wakes_the_hub(celery: Celery) -> None:
    celery.telling.accept()
    celery.telling.accept()
    assert celery.told == ["accepted 7"]
    assert celery.pokes == 1


def test_whoever_never_accepted_is_accepted_before_the_outcome(celery: Celery) -> None:
    assert celery.telling.outcome((0, "value", 0.1)).kind is OutcomeKind.SUCCEEDED
    assert celery.told == ["accepted 7", "outcome 0"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), OutcomeKind.FAILED),
        (Ignore("held"), OutcomeKind.IGNORED),
        (Retry("parked"), OutcomeKind.RETRIED),
    ],
)
def test_the_outcome_says_what_the_tracer_reported(celery: Celery, error: Exception, kind: OutcomeKind) -> None:
    outcome = celery.telling.outcome(failed(error))
    assert (outcome.kind, outcome.error) == (kind, error)
    assert celery.told == ["accepted 7", "outcome 1"]


@pytest.mark.parametrize("returned", [True, False])
def test_a_rejected_message_is_not_accepted_first(celery: Celery, returned: bool) -> None:
    reject = Reject("no lease", requeue=True)
    outcome = celery.telling.outcome(failed(reject) if returned else reject)
    assert outcome.kind is OutcomeKind.REJECTED
    assert celery.told == ["outcome 1" if returned else "error"]


def test_a_hard_limit_is_the_outcome(celery: Celery) -> None:
    assert celery.telling.outcome(Leave(OutcomeKind.TIMED_OUT, 2.5)).kind is OutcomeKind.TIMED_OUT
    assert celery.told == ["accepted 7", "timeout False 2.5"]


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), KeyboardInterrupt()])
def test_what_celery_would_raise_itself_is_told_as_an_aborted_body(celery: Celery, error: BaseException) -> None:
    assert celery.telling.outcome(error).kind is OutcomeKind.FAILED
    assert celery.told == ["accepted 7", "error"]
    assert isinstance(celery.errors[0], BodyAborted)


def test_an_announced_termination_is_told_to_nobody_again(celery: Celery) -> None:
    """The redelivered message of a cancelled one has the same id: a callback would hit the new request."""
    celery.telling.accept()
    celery.telling.announce_begins()
    celery.telling.announce_ends()
    assert celery.telling.outcome((0, "value", 0.1)).kind is OutcomeKind.TERMINATED
    assert celery.told == ["accepted 7"]


def test_the_outcome_waits_for_an_announcement_under_way(celery: Celery) -> None:
    celery.telling.announce_begins()
    outcomes: list[OutcomeKind] = []
    thread = threading.Thread(target=lambda: outcomes.append(celery.telling.outcome((0, "", 0.1)).kind))
    thread.start()
    celery.telling.announce_ends()
    thread.join(10)
    assert outcomes == [OutcomeKind.TERMINATED]
    assert celery.told == ["accepted 7"]


def test_a_termination_that_nobody_announced_is_announced_by_the_outcome(celery: Celery) -> None:
    celery.telling.announce_ends()  # Celery's second call alone, before accept
    celery.telling.outcome(Leave(OutcomeKind.TERMINATED))
    assert celery.told == ["accepted 7", "error"]
    assert isinstance(celery.errors[0], Terminated)


def test_a_termination_inside_accept_is_announced_there() -> None:
    """`Request.on_accepted` terminates when it was asked to before; all in the job's own thread."""
    celery = Celery()
    telling = Telling(7, Order(target=len, accept_callback=lambda *_: terminate()), celery.poke)

    def terminate() -> None:
        telling.announce_begins()
        celery.told.append("announced")
        telling.announce_ends()

    assert telling.outcome(Leave(OutcomeKind.TERMINATED)).kind is OutcomeKind.TERMINATED
    assert celery.told == ["announced"]


def test_an_abandoned_job_is_told_to_nobody(celery: Celery) -> None:
    assert celery.telling.outcome(Leave(OutcomeKind.ABANDONED)).kind is OutcomeKind.ABANDONED
    assert celery.told == []


def test_a_callback_that_raises_stops_nothing() -> None:
    def broken(*_: Any) -> None:
        raise KeyError("backend")

    telling = Telling(7, Order(target=len, accept_callback=broken, callback=broken), lambda: None)
    assert telling.outcome((0, "value", 0.1)).kind is OutcomeKind.SUCCEEDED
    assert telling.accepted


@pytest.mark.parametrize(("acks_late", "accepted", "goes_back"), [
    (False, False, True), (False, True, False), (True, False, True), (True, True, True),
])  # fmt: skip
def test_only_an_unacknowledged_message_goes_back(acks_late: bool, accepted: bool, goes_back: bool) -> None:
    celery = Celery(acks_late=acks_late)
    if accepted:
        celery.telling.accept()
    assert celery.telling.unacknowledged is goes_back
