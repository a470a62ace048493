"""What an operator does at night: list, inspect, retry, cancel, signal. Real workers, the command line, no code."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_contracts import keys
from api_contracts.runs import SignalType
from tests.acceptance.cluster import CELERY, MODEL, Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import of_type, types
from tests.acceptance.shell import objects, run
from tests.servers import embedded_valkey
from tests.waiting import eventually

pytestmark = pytest.mark.requirement("RUN-18")

BY = ("--by", "ann@night", "--reason", "it is well again")
SLOW = "accounts/fireworks/models/emulated-new"
"""Jobs of this model last for hours."""
SLOW_ONCE = "accounts/fireworks/models/emulated-small"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """One worker of every queue but the background's, a tool service, beat."""
    folder = tmp_path_factory.mktemp("operators")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="10", FW_SWEEP_S="0.5", FW_POLL_S="0.3")
        try:
            queues = "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control"
            started = [made.worker("all", queues=queues), made.tool_service()]
            beat = made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")
            for process in started:
                process.ready()
            beat.ready("beat: Starting...")
            yield made
        finally:
            made.close()


def failed(cluster: Cluster, name: str, text: str, **fields: object) -> str:
    """Return a chat that failed, of which everybody was told."""
    cluster.client.chat.submit(say(text, **fields), run_id=name)
    assert cluster.client.result(name, timeout_s=60).status == "failed"
    eventually(lambda: cluster.announced(name))
    return name


def parked_batch(cluster: Cluster, name: str, model: str = SLOW) -> str:
    """Return a batch whose job is at work."""
    rows = [{"body": {"messages": [{"role": "user", "content": f"echo {n}"}]}} for n in range(3)]
    cluster.client.batch.submit(model=model, rows=rows, run_id=name)
    eventually(lambda: cluster.redis.hget(keys.lease(name), "parked") == "1", within=60)
    return name


def test_a_failed_chat_is_retried_and_completes_without_a_settled_call_being_made_again(
    cluster: Cluster, name: str
) -> None:
    failed(cluster, name, f"mend {name}", tools=["lookup"])
    assert cluster.board.marks(name) == ["lookup"]
    done = run(cluster, "runs", "retry", name, *BY)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"run {name} is reopened" in done.stderr
    result = cluster.client.result(name, timeout_s=60)
    assert result.status == "completed"
    assert result.message["content"] == f"told: {name} was looked up"
    assert cluster.board.marks(name) == ["lookup"]
    events = cluster.client.events(name)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    kinds = types(events)
    assert kinds[kinds.index("run.failed") + 1] == "run.resumed"
    assert kinds.count("tool.call_started") == 1
    (resumed,) = of_type(events, "run.resumed")
    assert (resumed.data["by"], resumed.data["reason"]) == ("ann@night", "it is well again")
    eventually(lambda: cluster.meta(name)["status"] == "SUCCESS")
    again = run(cluster, "runs", "retry", name, "--json")
    assert again.returncode == 4
    assert "it is completed: there is nothing to do again" in again.stderr


def test_two_operators_at_once_are_one_retry(cluster: Cluster, name: str) -> None:
    failed(cluster, name, "denied")
    with ThreadPoolExecutor(2) as operators:
        both = [operators.submit(run, cluster, "runs", "retry", name, "--json", "--by", who) for who in ("ann", "bob")]
        done = [each.result() for each in both]
    said = [objects(each)[0]["outcome"] if each.stdout else "being told" for each in done]
    assert "reopened" in said, [each.stderr for each in done]
    eventually(lambda: cluster.announced(name) and len(of_type(cluster.client.events(name), "run.failed")) >= 2)
    events = cluster.client.events(name)
    # The second may have come after the retry had failed again: then it is a retry of its own.
    assert len(of_type(events, "run.resumed")) == said.count("reopened")
    assert len(of_type(events, "run.failed")) == 1 + said.count("reopened")


def test_a_batch_that_was_cancelled_is_retried_and_completes(cluster: Cluster, name: str) -> None:
    parked_batch(cluster, name, SLOW_ONCE)
    assert run(cluster, "runs", "cancel", name, "--by", "bob", "--reason", "wrong day").returncode == 0
    assert cluster.client.result(name, timeout_s=60).status == "cancelled"
    eventually(lambda: cluster.announced(name))
    (cancelling,) = of_type(cluster.client.events(name), "run.cancelling")
    assert (cancelling.data["by"], cancelling.data["reason"]) == ("bob", "wrong day")
    assert run(cluster, "runs", "retry", name, *BY).returncode == 0
    assert cluster.client.result(name, timeout_s=90).status == "completed"
    assert [row.state for row in cluster.client.batch.rows(name)] == ["succeeded"] * 3


def test_a_speech_session_that_is_over_is_not_retried(cluster: Cluster, name: str) -> None:
    cluster.client.stt.open(run_id=name)
    eventually(lambda: "stt.connected" in types(cluster.client.events(name)), within=60)
    assert objects(run(cluster, "runs", "show", name, "--json"))[0]["status"] == "running"
    assert run(cluster, "runs", "cancel", name, *BY).returncode == 0
    eventually(lambda: cluster.announced(name), within=60)
    done = run(cluster, "runs", "retry", name)
    assert done.returncode == 4
    assert "open a new one" in done.stderr


def test_a_parked_run_is_shown_signalled_and_woken(cluster: Cluster, name: str) -> None:
    parked_batch(cluster, name)

    def asleep() -> dict[str, object] | None:
        """Return what is shown; news of its job may just have woken it."""
        found = objects(run(cluster, "runs", "show", name, "--json"))[0]
        return found if found["status"] == "parked" else None

    shown = eventually(asleep, within=60)
    assert (shown["last"], shown["letters"]) == ("run.parked", 0)
    assert shown["why"]
    assert shown["why"] in shown["what"]
    assert run(cluster, "runs", "signal", name, "interrupt", "--by", "ann").returncode == 0
    ignored = eventually(lambda: of_type(cluster.client.events(name), "run.ignored"), within=60)[0]
    assert ignored.data["signal"] == "interrupt"
    assert (ignored.data["by"], ignored.data["reason"]) == ("ann", "a batch does nothing on interrupt")
    retry = ("runs", "retry", name, "--json", *BY)
    eventually(lambda: objects(run(cluster, *retry))[0]["outcome"] == "woken", within=60)
    eventually(
        lambda: "ann@night" in [e.data.get("by") for e in of_type(cluster.client.events(name), "run.resumed")],
        within=60,
    )
    assert run(cluster, "runs", "cancel", name).returncode == 0
    assert cluster.client.result(name, timeout_s=60).status == "cancelled"


def test_a_call_that_waits_is_shown_and_answered_by_an_operator(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    eventually(lambda: cluster.board.marks(name) == ["charged"], within=60)
    shown = objects(run(cluster, "runs", "show", name, "--json"))[0]
    (call,) = shown["calls"]
    assert shown["status"] in ("running", "parked"), "it parks once it has waited for a while"
    assert (call["name"], call["state"]) == ("charge", "running")
    for data, code, word in (
        ({"call_id": "9.9", "ok": True}, 4, f"has no call '9.9': open calls are {call['call_id']} (charge)"),
        ({"call_id": call["call_id"], "value": 1}, 2, 'say "ok": true with a value'),
        ({"call_id": call["call_id"], "ok": "yes"}, 2, "tool_result.ok"),
        ([], 2, "--data is a list, not a JSON object"),
    ):
        done = run(cluster, "runs", "signal", name, "tool_result", "--data", json.dumps(data))
        assert (done.returncode, word in done.stderr) == (code, True), done.stderr
    good = json.dumps({"call_id": call["call_id"], "ok": True, "value": "by hand"})
    assert run(cluster, "runs", "signal", name, "tool_result", "--data", good, "--by", "ann").returncode == 0
    assert cluster.client.result(name, timeout_s=60).message["content"] == "told: by hand"
    (result,) = of_type(cluster.client.events(name), "tool.call_result")
    assert result.data["by"] == "ann"
    cluster.board.open_gate(name)
    late = run(cluster, "runs", "signal", name, "tool_result", "--data", good)
    assert late.returncode == 4


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        ("explode", (), "there is no such signal: it is one of cancel, interrupt"),
        ("retry", (), "write `fireworks-workers runs retry"),
        ("approve", (), "approve.call_id"),
        ("update_settings", ("--data", "{"), "--data is not JSON, at character 2"),
        ("cancel", ("--id", "x" * 300), "at most 256 characters"),
    ],
)
def test_a_signal_that_is_none_is_refused_with_what_is_wrong(
    cluster: Cluster, name: str, kind: str, options: tuple[str, ...], word: str
) -> None:
    done = run(cluster, "runs", "signal", name, kind, *options)
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def a_night(cluster: Cluster, name: str) -> tuple[str, str, str, str, str]:
    """Return a run that waits, one that works, one that is parked, one that failed, one that is completed."""
    labels = {"night": name}
    waits, works, sleeps, broken, well = (f"{name}-{n}" for n in range(5))
    cluster.client.chat.submit(say("echo x", lane="background", labels=labels, tenant="acme"), run_id=waits)
    cluster.client.chat.submit(say("stall", labels=labels), run_id=works)
    rows = [{"body": {"messages": [{"role": "user", "content": "x"}]}}]
    cluster.client.batch.submit(model=SLOW, rows=rows, labels=labels, run_id=sleeps)
    failed(cluster, broken, "denied", labels=labels)
    cluster.client.chat.complete(say("echo done", labels=labels), run_id=well, timeout_s=60)
    eventually(lambda: "chat.delta" in types(cluster.client.events(works)), within=60)
    eventually(lambda: cluster.redis.hget(keys.lease(sleeps), "parked") == "1", within=60)
    return waits, works, sleeps, broken, well


def test_list_shows_runs_in_every_standing_chooses_among_them_and_cancel_takes_several(
    cluster: Cluster, name: str
) -> None:
    waits, works, sleeps, broken, well = a_night(cluster, name)

    def listed(*options: str) -> dict[str, dict[str, object]]:
        done = run(cluster, "runs", "list", "--json", "--label", f"night={name}", *options)
        assert done.returncode == 0, done.stderr
        return {str(each["run_id"]): each for each in objects(done)}

    def as_expected() -> dict[str, dict[str, object]] | None:
        """Return the whole list; news of its job may just have woken the batch."""
        found = listed("--since", "1h")
        return found if {run_id: each["standing"] for run_id, each in found.items()} == standings else None

    standings = {waits: "queued", works: "running", sleeps: "parked", broken: "failed", well: "completed"}
    everything = eventually(as_expected, within=60)
    assert everything[works]["lease_s"]
    assert everything[sleeps]["why"]
    assert everything[sleeps]["look_s"]
    assert everything[broken]["why"] == "provider_authentication"
    assert eventually(lambda: set(listed("--status", "failed", "--status", "parked")) == {sleeps, broken}, within=60)
    assert set(listed("--kind", "batch")) == {sleeps}
    assert set(listed("--tenant", "acme", "--lane", "background")) == {waits}
    assert len(listed("--limit", "1")) == 2, "so many live ones, and so many that ended"
    table = run(cluster, "runs", "list", "--label", f"night={name}").stdout
    for word in (*everything, "running", "queued", "failed", "completed", "lease ends in", "waits for a worker"):
        assert word in table
    assert "echo" not in table
    done = run(cluster, "runs", "cancel", waits, works, sleeps, broken, "no-such-run", "--json", *BY)
    assert done.returncode == 4, "the worst of them"
    assert [each["outcome"] for each in objects(done)] == ["sent", "sent", "sent", "over", "unknown"]
    assert {cluster.client.result(each, timeout_s=60).status for each in (waits, works, sleeps)} == {"cancelled"}
    cluster.redis.delete("fireworks.chat.bg")


def test_what_only_sql_has_is_shown_and_not_retried(cluster: Cluster, name: str) -> None:
    failed(cluster, name, "denied", labels={"night": name})
    lost = [keys.events(name), keys.lease(name), keys.inbox(name)]
    cluster.redis.delete(*lost)
    (line,) = objects(run(cluster, "runs", "list", "--json", "--label", f"night={name}"))
    assert (line["run_id"], line["standing"]) == (name, "failed")
    assert objects(run(cluster, "runs", "show", name, "--json"))[0]["failure"]["code"] == "provider_authentication"
    done = run(cluster, "runs", "retry", name)
    assert done.returncode == 4
    assert "submit it again, under another id" in done.stderr


def test_a_service_that_is_away_is_one_line_that_says_what_to_do(cluster: Cluster, name: str) -> None:
    for arguments in (("list",), ("show", name), ("retry", name), ("signal", name, "cancel"), ("cancel", name)):
        done = run(cluster, "runs", *arguments, FW_REDIS_URL="redis://127.0.0.1:1/0")
        assert done.returncode == 1, done.stderr
        assert "does not answer" in done.stderr
        assert "doctor" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    no_sql = run(cluster, "runs", "list", FW_DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert no_sql.returncode == 1
    assert "no ended run is shown" in no_sql.stderr


# -- every signal, to every kind, at every stage -----------------------------------------------------------------------

SAID: dict[SignalType, dict[str, object]] = {
    "interrupt": {"by": "ann"},
    "tool_result": {"by": "ann", "call_id": "1.0", "token": "t", "ok": True},
    "approve": {"by": "ann", "call_id": "1.0"},
    "reject": {"by": "ann", "call_id": "1.0", "reason": "too dear"},
    "update_settings": {"by": "ann", "settings": {"temperature": 0}},
}
"""Cancel apart: these change nothing in runs that do not wait for them."""
FOR_NO_CALL: tuple[SignalType, ...] = ("tool_result", "approve", "reject")
"""Those that a chat without calls does not wait for. It changes its settings, and falls silent when interrupted."""
FOR_NO_SESSION: tuple[SignalType, ...] = ("interrupt", *FOR_NO_CALL)
"""Those that a session has no use for. It changes its options."""


def told(cluster: Cluster, run_id: str, *signals: SignalType) -> list[str]:
    """Say this to a run; return what its journal says was ignored, once that is all of it."""
    say_to(cluster, run_id, *signals)
    return eventually(lambda: (found := ignored(cluster, run_id)) and len(found) >= len(signals) and found, within=60)


def say_to(cluster: Cluster, run_id: str, *signals: SignalType) -> None:
    for signal in signals:
        assert cluster.client.signal(run_id, signal, SAID[signal])


def ignored(cluster: Cluster, run_id: str) -> list[str]:
    events = of_type(cluster.client.events(run_id), "run.ignored")
    assert all(event.data["by"] == "ann" and event.data["reason"] for event in events)
    return [event.data["signal"] for event in events]


def is_cancelled(cluster: Cluster, run_id: str) -> bool:
    """End a run that has not ended, then say everything again: nothing changes, and that is said."""
    cluster.client.cancel(run_id, "enough")
    result = cluster.client.result(run_id, timeout_s=60)
    eventually(lambda: cluster.announced(run_id))
    journal = cluster.client.events(run_id)
    assert [cluster.client.signal(run_id, signal, data) for signal, data in SAID.items()] == [False] * len(SAID)
    assert cluster.client.cancel(run_id) is False
    assert cluster.client.events(run_id) == journal
    return result.status == "cancelled"


@pytest.mark.requirement("RUN-06")
def test_every_signal_to_a_cited_answer_at_work_is_told_as_ignored_and_the_run_goes_on(
    cluster: Cluster, name: str
) -> None:
    sources = [{"id": "a", "content": "It was built in 1874."}]
    cluster.client.cite.submit(model=MODEL, question="cite forever", sources=sources, run_id=name)
    eventually(lambda: "run.started" in types(cluster.client.events(name)), within=60)
    assert told(cluster, name, *SAID) == list(SAID)
    assert is_cancelled(cluster, name)


@pytest.mark.requirement("RUN-06", "STT-12")
def test_a_session_at_work_hears_of_settings_is_told_what_is_not_for_it_and_goes_on(
    cluster: Cluster, name: str
) -> None:
    cluster.client.stt.open(run_id=name)
    eventually(lambda: "run.started" in types(cluster.client.events(name)), within=60)
    say_to(cluster, name, "update_settings")
    assert told(cluster, name, *FOR_NO_SESSION) == list(FOR_NO_SESSION)
    events = of_type(cluster.client.events(name), "stt.settings")
    assert [(event.data["changed"], event.data["by"]) for event in events] == [({"temperature": 0}, "ann")]
    assert is_cancelled(cluster, name)


@pytest.mark.requirement("RUN-06", "CHAT-21")
def test_a_chat_at_work_hears_what_is_for_it_is_told_what_is_not_and_falls_silent_when_interrupted(
    cluster: Cluster, name: str
) -> None:
    cluster.client.chat.submit(say("stall"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    say_to(cluster, name, *FOR_NO_CALL, "update_settings", "interrupt")
    assert cluster.client.result(name, timeout_s=60).status == "completed"
    assert ignored(cluster, name) == list(FOR_NO_CALL)
    events = cluster.client.events(name)
    assert [event.data["changed"] for event in of_type(events, "chat.settings")] == [{"temperature": 0}]
    assert [event.data["interrupted"] for event in of_type(events, "chat.message")] == [True]
    assert not is_cancelled(cluster, name)


@pytest.mark.requirement("RUN-06", "RUN-07")
def test_every_signal_to_a_parked_run_wakes_it_and_is_told_as_ignored(cluster: Cluster, name: str) -> None:
    parked_batch(cluster, name)
    assert told(cluster, name, *SAID) == list(SAID)
    eventually(lambda: cluster.redis.hget(keys.lease(name), "parked") == "1", within=60)
    assert is_cancelled(cluster, name)


@pytest.mark.requirement("RUN-06")
def test_every_signal_before_the_start_is_heard_by_the_first_worker(cluster: Cluster, name: str) -> None:
    interrupted = f"{name}-2"
    said: dict[str, tuple[SignalType, ...]] = {"short": (*FOR_NO_CALL, "update_settings"), "stall": ("interrupt",)}
    for run_id, (text, signals) in zip((name, interrupted), said.items(), strict=True):
        cluster.client.chat.submit(say(text, lane="background"), run_id=run_id)
        say_to(cluster, run_id, *signals)
        assert types(cluster.client.events(run_id)) == ["run.queued"]
    late = cluster.worker("late", queues="fireworks.chat.bg").ready()
    assert [cluster.client.result(each, timeout_s=60).status for each in (name, interrupted)] == ["completed"] * 2
    assert late.stop() == 0
    assert ignored(cluster, name) == list(FOR_NO_CALL)
    (kept,) = of_type(cluster.client.events(interrupted), "chat.message")
    assert kept.data["interrupted"]
