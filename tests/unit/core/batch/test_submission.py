"""The way of a batch: what follows what, when it is parked, what it is told."""

import pytest

from api_contracts import batch
from api_contracts.runs import RunParked
from tests.unit.core.batch.stepping import Run, harvested, job, kinds, read, request, view
from tests.unit.core.batch.world import BUSY, REFUSED, T0
from workers.core.batch import acts, jobs
from workers.core.batch.plan import MOST_DIRECT, wire_parameters
from workers.core.batch.submission import AT_ONCE, LINGER_S
from workers.core.runs.frame import HOLD_S, Begin, Draining, Finish, Park, SignalArrived, Woke

# -- in ----------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-03", "BATCH-04")
def test_a_shard_goes_its_way_step_by_step() -> None:
    run = Run(request(system_prompt="be brief", parameters={"max_tokens": 9, "top_k": 5, "extra": {"stop": "x"}}))
    assert run.feed(Begin("w")) == ["run.started", "ReadRows"]
    assert run.effect(acts.ReadRows).life == 1
    assert run.feed(read(3)) == ["batch.validated", "CreateDataset"]
    created = run.effect(acts.CreateDataset)
    assert (created.dataset, created.rows) == (job(1).replace("-job", "-in"), 3)
    assert run.feed(acts.DatasetSeen(1, ready=False)) == ["Upload"]
    assert run.effect(acts.Upload).signed is False
    assert run.feed(acts.RowsUploaded(1)) == ["batch.uploaded", "LookAtDataset"]
    assert run.feed(acts.DatasetSeen(1, ready=True)) == ["CreateJob"]
    made = run.effect(acts.CreateJob)
    assert (made.job, made.dataset, made.output) == (job(1), created.dataset, job(1).replace("-job", "-out"))
    assert made.parameters == {"maxTokens": 9, "topK": 5, "extraBody": '{"stop":"x"}'}
    assert (made.model, made.system_prompt) == ("m", "be brief")
    assert run.feed(acts.JobSeen(1, view(1, "VALIDATING"))) == ["batch.submitted", "batch.state"]
    assert run.told(1, view(1, "RUNNING", processed=2)) == ["batch.progress", "batch.state"]
    assert run.told(1, view(1, "COMPLETED", processed=3)) == ["batch.progress", "batch.state", "HarvestJob"]
    assert run.feed(harvested(1, 3, usage=batch.Usage(prompt_tokens=5))) == [
        "batch.harvested",
        "batch.cost",
        "CountRows",
    ]
    assert run.feed(acts.RowsCounted(acts.Counts(3))) == ["Finish"]
    result = run.effect(Finish).result
    assert (result["status"], result["rows"]["succeeded"], result["usage"]["prompt_tokens"]) == ("completed", 3, 5)
    assert "cost" not in result, "unknown is not zero"


@pytest.mark.requirement("BATCH-04")
def test_a_dataset_that_is_not_ready_has_no_job() -> None:
    run = Run().begin()
    run.feed(read(3))
    run.feed(acts.DatasetSeen(1, ready=False))
    assert run.feed(acts.RowsUploaded(1)) == ["batch.uploaded", "LookAtDataset"]
    assert run.feed(acts.DatasetSeen(1, ready=False)) == [], "it is looked at again in a moment"
    assert run.later(0.9) == []
    assert run.later(0.1) == ["LookAtDataset"]
    for wait in (1.0, 1.0, 1.5, 2.25):
        assert run.feed(acts.DatasetSeen(1, ready=False)) == []
        assert run.later(wait) == ["LookAtDataset"]
    run.now += 600
    assert run.feed(acts.DatasetSeen(1, ready=False)) == ["Park"]
    assert run.effect(Park).until == run.now + 60
    run = run.reborn()
    run.now += 3600
    assert run.feed(acts.DatasetSeen(1, ready=False)) == ["batch.trouble", "StopJob"]
    assert run.feed(acts.JobStopped(1)) == ["Finish"]
    assert run.effect(Finish).failure.code == "dataset_not_ready"


@pytest.mark.requirement("BATCH-04")
@pytest.mark.parametrize(("size", "signed"), [(MOST_DIRECT, False), (MOST_DIRECT + 1, True)])
def test_what_is_too_large_for_one_upload_goes_by_signed_urls(size: int, signed: bool) -> None:
    run = Run().begin()
    run.feed(read(1, size=size))
    run.feed(acts.DatasetSeen(1, ready=False))
    assert run.effect(acts.Upload).signed is signed


def test_parameters_that_are_not_set_are_not_sent() -> None:
    assert wire_parameters(batch.BatchParameters()) == {}
    assert wire_parameters(batch.BatchParameters(temperature=0, top_p=1, n=2)) == {"temperature": 0, "topP": 1, "n": 2}


@pytest.mark.requirement("BATCH-02")
def test_rows_that_are_set_aside_are_told_and_the_others_go_on() -> None:
    run = Run().begin()
    assert run.feed(read(3, quarantined=2)) == ["batch.quarantined", "batch.validated", "CreateDataset"]
    assert run.event(batch.BatchQuarantined).reasons == {"not_json": 2}
    assert run.machine.state.counts() == batch.RowCounts(total=5, quarantined=2, pending=3)


@pytest.mark.parametrize(("quarantined", "why"), [(0, "has no rows"), (2, "(not_json: 2)")])
def test_nothing_to_submit_is_a_failure_that_says_why(quarantined: int, why: str) -> None:
    run = Run().begin()
    run.feed(read(quarantined=quarantined))
    failure = run.effect(Finish).failure
    assert failure.code == "no_valid_rows"
    assert why in failure.message


@pytest.mark.requirement("BATCH-05")
def test_few_steps_are_under_way_at_once() -> None:
    run = Run().begin()
    assert run.feed(read(*[1] * 6)).count("CreateDataset") == AT_ONCE
    assert run.feed(acts.DatasetSeen(3, ready=False)) == ["Upload"], "what is begun goes on first"
    assert run.failed(2, "create", BUSY) == ["batch.trouble", "CreateDataset"]
    assert run.effect(acts.CreateDataset).shard == 5, "while one waits, another has its place"


def test_more_shards_than_can_be_led_are_refused() -> None:
    run = Run().begin()
    run.feed(read(*[1] * 2001))
    assert run.effect(Finish).failure.code == "too_many_shards"


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-06")
def test_it_is_parked_while_the_provider_works_but_not_before_its_letters_can_be_read() -> None:
    run = Run().submitted(3)
    assert "Park" not in kinds(run.last)
    assert run.machine.deadline == T0 + LINGER_S
    assert run.later(LINGER_S) == ["Park"]
    park = run.effect(Park)
    assert park.until is not None
    assert park.until - run.now >= 2 * 30
    assert park.why == "1 of 1 open jobs are at work"


@pytest.mark.requirement("BATCH-06")
def test_without_news_it_looks_by_itself_when_its_time_has_come() -> None:
    run = Run().submitted(3)
    run.later(LINGER_S)
    run = parked_for(run).reborn()
    assert kinds(run.last) == ["run.resumed", "LookAtJob"]
    assert run.feed(acts.JobSeen(1, view(1, "VALIDATING"))) == [], "nothing new"
    assert run.later(LINGER_S) == ["Park"]
    run = parked_for(run)
    assert kinds(run.reborn().last) == ["run.resumed", "LookAtJob"]


@pytest.mark.requirement("BATCH-06")
def test_a_signal_before_its_time_makes_it_look_at_nothing_else() -> None:
    run = Run().submitted(3, 3)
    run.later(LINGER_S)
    until = run.effect(Park).until
    run = parked_for(run, 30)
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed"]
    assert run.told(1, view(1, "PENDING")) == ["batch.state"]
    assert run.later(LINGER_S) == ["Park"]
    assert run.effect(Park).until == until, "what was to be looked at then still is"


@pytest.mark.requirement("BATCH-06")
def test_what_was_looked_at_before_a_signal_is_not_looked_at_again() -> None:
    run = Run().submitted(3, 3)
    run.later(LINGER_S)
    run = parked_for(run).reborn()
    for shard in (1, 2):
        run.feed(acts.JobSeen(shard, view(shard, "VALIDATING")))
    run.later(LINGER_S)
    until = run.effect(Park).until
    assert until - run.now > 120
    run = parked_for(run, 119).reborn()
    assert kinds(run.last) == ["run.resumed"], "nobody has looked for long, but for the life before"
    assert run.told(1, view(1, "RUNNING")) == ["batch.state"]
    run.later(LINGER_S)
    assert run.effect(Park).until == until


def test_what_comes_together_with_a_park_is_decided_all_the_same() -> None:
    """The driver decides all facts that are there before a park counts, and takes them for read."""
    run = Run().submitted(3)
    run.now += LINGER_S
    news = SignalArrived("5-1", jobs.SIGNAL, jobs.letter_of(1, view(1, "RUNNING")))
    assert run.feed(Woke(), news) == ["Park", "batch.state", "Park"]
    assert run.feed(Woke(), SignalArrived("6-1", "cancel", {})) == ["Park", "run.cancelling", "StopJob"]
    assert run.feed(acts.JobStopped(1)) == ["LookAtJob"]
    assert "Park" not in run.feed(acts.JobSeen(1, view(1, "RUNNING"))), "the effect made the park void: it lingers"


def test_a_look_at_a_dataset_whose_job_is_known_by_now_tells_nothing() -> None:
    run = Run().begin()
    run.feed(read(3))
    run.feed(acts.DatasetSeen(1, ready=False))
    assert run.feed(acts.RowsUploaded(1)) == ["batch.uploaded", "LookAtDataset"]
    run.told(1, view(1, "RUNNING"))
    run.now += 4000
    assert run.feed(acts.DatasetSeen(1, ready=False)) == ["LookAtJob"]
    assert run.machine.state.ending is None


def test_a_look_that_comes_after_the_end_tells_nothing() -> None:
    run = Run().submitted(3)
    run.now += 1000
    run = run.reborn()
    assert run.told(1, view(1, "COMPLETED", processed=2)) == ["batch.progress", "batch.state"]
    assert run.feed(acts.JobSeen(1, view(1, "RUNNING", processed=3))) == ["HarvestJob"]


def test_every_letter_goes_into_the_journal_or_it_would_end_each_park() -> None:
    run = Run().submitted(3)
    for kind, data in (
        ("hello", {}),
        ("conflict", {"digest": "\ud800"}),
        (jobs.SIGNAL, {"shard": "x"}),
        (jobs.SIGNAL, jobs.letter_of(9, view(9, "RUNNING"))),
        (jobs.SIGNAL, jobs.letter_of(1, view(2, "RUNNING"))),
        (jobs.SIGNAL, jobs.letter_of(1, view(1, "VALIDATING"))),
        (jobs.SIGNAL, jobs.letter_of(1, jobs.gone(job(1)))),
    ):
        assert run.letter(kind, data) in (["batch.trouble"], ["run.conflict"], ["run.ignored"])
        assert run.machine.cursor == f"{int(run.now)}-{run.letters}"
    cursor = run.machine.cursor
    assert run.feed(SignalArrived(cursor, "hello", {})) == [], "a letter that was read is not read again"
    assert run.reborn().machine.cursor == cursor


@pytest.mark.requirement("BATCH-06")
def test_an_unknown_state_alarms_once_and_is_not_the_end() -> None:
    run = Run().submitted(3, 3)
    assert run.told(1, view(1, "POLISHING")) == ["batch.trouble", "batch.state"]
    assert run.event(batch.BatchTrouble).kind == "unknown_state"
    assert run.event(batch.BatchState).group == "unknown"
    assert run.told(2, view(2, "POLISHING")) == ["batch.state"]
    assert run.told(1, view(1, "COMPLETED")) == ["batch.state", "HarvestJob"]


@pytest.mark.requirement("BATCH-08")
@pytest.mark.parametrize("state", ["CANCELLING", "DELETING", "DELETING_CLEANING_UP", "PAUSED", "RE_QUEUEING"])
def test_a_state_that_is_not_the_end_is_waited_through(state: str) -> None:
    run = Run().submitted(3)
    assert run.told(1, view(1, state)) == ["batch.state"]
    assert run.machine.state.shards[1].stage == "submitted"


def test_counters_do_not_go_back_and_what_is_over_stays_over() -> None:
    run = Run().submitted(3)
    run.told(1, view(1, "RUNNING", processed=2))
    assert run.told(1, view(1, "RUNNING", processed=1)) == ["batch.trouble"]
    assert run.told(1, view(1, "COMPLETED", processed=1)) == ["batch.state", "HarvestJob"]
    assert run.told(1, view(1, "RUNNING", processed=3)) == ["batch.trouble"]
    assert run.event(batch.BatchTrouble).kind == "stale"


def test_the_poller_may_know_of_a_job_before_the_run_does() -> None:
    run = Run().begin()
    run.feed(read(3))
    run.feed(acts.DatasetSeen(1, ready=True))
    assert run.told(1, jobs.gone(job(1))) == ["batch.trouble"], "not created yet, perhaps"
    assert run.told(1, view(1, "RUNNING")) == ["batch.submitted", "batch.state"]
    assert run.feed(acts.JobSeen(1, view(1, "RUNNING"))) == [], "its own reply tells nothing new"
    assert "CreateJob" not in kinds(run.reborn().last)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_job_that_never_ends_is_stopped_and_then_given_up() -> None:
    run = Run(request(attempts=1)).begin()
    run.feed(read(3))
    run.feed(acts.DatasetSeen(1, ready=True))
    run.feed(acts.JobSeen(1, view(1, "PENDING", expires_at=T0 + 86_400)))
    run.now = T0 + 86_400 + 3_600
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "StopJob"]
    assert run.feed(acts.JobStopped(1)) == []
    run.later(LINGER_S)
    assert run.effect(Park).until <= T0 + 86_400 + 7_200
    run.now = T0 + 86_400 + 7_200
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "batch.state", "HarvestJob"]
    assert run.effect(acts.HarvestJob).rest.code == "job_cancelled"


def test_a_promise_that_will_not_be_kept_is_told_once() -> None:
    run = Run(request(promise_s=1000)).submitted(10)
    run.now = T0 + 500
    assert run.told(1, view(1, "RUNNING", processed=6)) == ["batch.progress", "batch.state"], "833 s, as it looks"
    run.now = T0 + 600
    assert run.told(1, view(1, "RUNNING", processed=6, code="x")) == ["batch.trouble"], "1000 s"
    run.now = T0 + 660
    assert "batch.at_risk" in run.told(1, view(1, "RUNNING", processed=6))
    assert run.event(batch.BatchAtRisk).expected_at == pytest.approx(T0 + 1100)
    run.now = T0 + 2000
    assert "batch.at_risk" not in run.told(1, view(1, "RUNNING", processed=7))


def test_a_promise_is_at_risk_without_any_progress_too() -> None:
    run = Run(request(promise_s=100)).submitted(10)
    run.later(LINGER_S)
    assert run.effect(Park).until == T0 + 80, "it looks up when there is reason to worry"
    run.now = T0 + 80
    assert kinds(run.reborn().last) == ["run.resumed", "batch.at_risk"]


def test_rows_that_were_set_aside_are_no_progress() -> None:
    run = Run(request(promise_s=1000)).submitted(10, quarantined=90)
    run.now = T0 + 800
    run = run.reborn()
    assert "batch.at_risk" in kinds(run.last)
    assert run.event(batch.BatchAtRisk).expected_at is None


def test_short_waits_keep_the_worker() -> None:
    run = Run().begin()
    run.now += 100
    run.failed(0, "read", BUSY)
    assert run.machine.deadline == run.now + 2
    assert HOLD_S >= 2
    assert run.later(2) == ["ReadRows"]
    assert run.failed(0, "read", BUSY) == ["batch.trouble"]
    assert run.later(4) == ["ReadRows"]
    assert run.failed(0, "read", BUSY) == ["batch.trouble", "Park"]
    assert run.effect(Park).until == run.now + 8


def test_a_park_ends_at_the_runs_own_deadline() -> None:
    run = Run(request(deadline_s=50)).submitted(3)
    run.later(LINGER_S)
    assert run.effect(Park).until == T0 + 50


# -- handing over ------------------------------------------------------------------------------------------------------


def test_a_worker_that_drains_begins_nothing_and_lets_go_when_its_steps_are_done() -> None:
    run = Run().begin()
    run.feed(read(1, 1))
    assert run.feed(Draining(T0 + 50)) == []
    assert run.feed(acts.DatasetSeen(1, ready=True)) == ["batch.uploaded"]
    assert run.feed(acts.DatasetSeen(2, ready=True)) == ["batch.uploaded", "Release"]
    assert kinds(run.reborn().last) == ["run.resumed", "LookAtDataset", "LookAtDataset"]


def test_a_worker_that_drains_lets_go_at_the_latest_when_it_is_told() -> None:
    run = Run().begin()
    run.feed(Draining(T0 + 50))
    assert run.machine.deadline == T0 + 50
    assert run.later(50) == ["Release"]
    assert run.feed(Woke(), read(1)) == []


def test_a_run_that_only_waits_is_parked_rather_than_handed_over() -> None:
    run = Run().submitted(3)
    assert run.feed(Draining(T0 + 50)) == ["Park"]


def test_a_run_that_is_given_to_a_draining_worker_is_not_begun() -> None:
    run = Run()
    assert run.feed(Draining(T0 + 50), Begin("w")) == ["run.started", "Release"]


def test_a_refusal_of_the_first_job_is_the_runs_own() -> None:
    run = Run().begin()
    run.feed(read(1, 1))
    run.feed(acts.DatasetSeen(1, ready=True))
    assert run.failed(1, "submit", REFUSED) == ["batch.trouble", "StopStep", "StopJob"]
    assert run.feed(acts.JobStopped(1)) == ["Finish"]
    assert run.effect(Finish).failure == REFUSED


def parked_for(run: Run, seconds: float | None = None) -> Run:
    """Write what the driver writes, and let the park's time pass."""
    park = run.effect(Park)
    run.journal.append((RunParked(why=park.why, until=park.until), run.now))
    run.now = park.until if seconds is None else run.now + seconds
    return run
