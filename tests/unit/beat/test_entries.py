"""The operator's file: what is taken, and what each fault says."""

from pathlib import Path

import pytest
from celery.schedules import crontab, schedule

from workers.beat.entries import read_plans
from workers.errors import Misconfigured

OURS = {"fireworks.runs.sweep"}
REQUEST = '{ model = "m", messages = [{ role = "user", content = "TOP SECRET" }] }'
TASK = 'task = "shop.tidy"\nqueue = "shop"'


def entry(*lines: str, name: str = "nightly") -> str:
    return "\n".join(["[[entry]]", f'name = "{name}"', *lines, ""])


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "beat.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured) as refused:
        read_plans(path, OURS)
    lines = str(refused.value).splitlines()
    assert all(line.startswith("FW_BEAT_FILE: ") for line in lines)
    assert "SECRET" not in str(refused.value)
    return [line.removeprefix(f"FW_BEAT_FILE: {path}: ") for line in lines]


@pytest.mark.requirement("OPS-04")
def test_runs_and_tasks_by_seconds_and_by_cron(tmp_path: Path) -> None:
    path = tmp_path / "beat.toml"
    path.write_text(
        entry("every_s = 600", f'kind = "chat"\nrequest = {REQUEST}', name="talk")
        + entry('cron = "0 7 * * mon-fri"', 'timezone = "Europe/Oslo"', TASK, "kwargs = { days = 3 }", "expires_s = 60")
    )
    plans = read_plans(path, OURS)
    assert list(plans) == ["talk", "nightly"]
    talk, nightly = plans.values()
    assert talk.timing == schedule(600)
    assert talk.request is not None
    assert talk.request.labels == {"beat": "talk"}
    assert nightly.timing == crontab("0", "7", "mon-fri")
    assert str(nightly.timing.tz) == "Europe/Oslo"
    assert nightly.celery["kwargs"] == {"days": 3}
    assert nightly.celery["options"] == {"queue": "shop", "expires": 60}


def test_what_redis_keeps_of_a_run_has_no_content(tmp_path: Path) -> None:
    path = tmp_path / "beat.toml"
    path.write_text(entry("every_s = 600", f'kind = "cite"\nrequest = {CITE}'))
    plan = read_plans(path, OURS)["nightly"]
    assert plan.request is not None
    assert "SECRET" not in str(plan.celery)
    assert plan.celery["options"] == {"queue": "fireworks.chat.bg"}


CITE = '{ model = "m", question = "SECRET?", sources = [{ id = "a", content = "SECRET" }], lane = "background" }'


def test_no_file_is_no_entries_and_an_empty_file_too(tmp_path: Path) -> None:
    assert read_plans(None, OURS) == {}
    (tmp_path / "beat.toml").write_text("# nothing yet\n")
    assert read_plans(tmp_path / "beat.toml", OURS) == {}


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([TASK], "needs every_s or cron, one of the two"),
        (["every_s = 5", 'cron = "* * * * *"', TASK], "needs every_s or cron, one of the two"),
        (["every_s = 0.2", TASK], "every_s: Input should be greater than or equal to 1"),
        (["every = 5", TASK], "every: unknown field; did you mean every_s?"),
        (['cron = "0 7 * *"', TASK], "cron: '0 7 * *' must have five fields"),
        (['cron = "0 25 * * *"', TASK], "cron: '0 25 * * *': Invalid end range: 25 > 23."),
        (['cron = "0 0 30 2 *"', TASK], "never occurs"),
        (['cron = "0 7 * * *"', 'timezone = "Mars/Base"', TASK], "timezone: 'Mars/Base' is unknown"),
        (["every_s = 5", 'timezone = "Europe/Oslo"', TASK], "timezone is for cron only"),
        (["every_s = 5"], "needs kind (a run) or task (of another app), one of the two"),
        (["every_s = 5", 'task = "shop.tidy"'], "task needs a queue"),
        (["every_s = 5", 'task = "fireworks.chat.complete"', 'queue = "q"'], "give kind and request instead"),
        (["every_s = 5", 'kind = "chat"'], "kind needs a request"),
        (["every_s = 5", 'kind = "stt"', f"request = {REQUEST}"], "kind: Input should be 'chat', 'batch' or 'cite'"),
        (["every_s = 5", 'kind = "chat"', f"request = {REQUEST}", "expires_s = 5"], "takes deadline_s"),
        (["every_s = 5", TASK, f"request = {REQUEST}"], "request is not for a task"),
        (["every_s = 5", 'kind = "chat"', 'request = { model = "m" }'], "'messages' must be given"),
        (["every_s = 5", 'kind = "chat"', f'request = {REQUEST[:-2]}, temprature = 1 }}'], "request.temprature: "),
        (["every_s = 5", 'kind = "chat"', f'request = {REQUEST[:-2]}, idempotency_key = "k" }}'], "leave it out"),
    ],
)  # fmt: skip
def test_a_fault_names_the_entry_and_the_field(tmp_path: Path, lines: list[str], said: str) -> None:
    (fault,) = faults(tmp_path, entry(*lines))
    assert fault.startswith("entry 'nightly': ")
    assert said in fault


@pytest.mark.requirement("OPS-17")
def test_every_fault_of_every_entry_is_told_at_once(tmp_path: Path) -> None:
    text = entry("every_s = 0", "colour = 1", TASK) + "[[entry]]\nevery_s = 5\n" + TASK
    said = faults(tmp_path, text)
    assert [line.partition(": ")[0] for line in said] == ["entry 'nightly'", "entry 'nightly'", "entry 2"]
    assert "name: Field required" in said[2]


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize("name", ["fireworks.runs.sweep", "fireworks.anything"])
def test_our_names_are_taken(tmp_path: Path, name: str) -> None:
    (fault,) = faults(tmp_path, entry("every_s = 5", TASK, name=name))
    assert f"the name {name!r} is ours" in fault


@pytest.mark.requirement("OPS-17")
def test_a_name_twice_is_a_fault_of_both(tmp_path: Path) -> None:
    assert len(faults(tmp_path, 2 * entry("every_s = 5", TASK))) == 2


@pytest.mark.parametrize("name", [":lock", ":schedule", "", "a b", "x" * 65])
def test_a_name_cannot_be_that_of_another_key(tmp_path: Path, name: str) -> None:
    (fault,) = faults(tmp_path, entry("every_s = 5", TASK, name=name))
    assert "name: " in fault


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[entry", "is no TOML"),
        ("[[entires]]\nname = 'a'", "unknown 'entires': entries are [[entry]]"),
        ("[entry]\nname = 'a'", "with two brackets"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert said in fault


@pytest.mark.requirement("OPS-17")
def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^FW_BEAT_FILE: cannot read .*: No such file or directory$"):
        read_plans(tmp_path / "none.toml", OURS)
