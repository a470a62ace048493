"""The guard of a tool's side: whatever the broker repeats, the effect happens once (TOOL-12)."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from api_contracts.client import OutcomeUnknown, SqlGuard, at_most_once

app = Celery("guarded", broker="memory://", backend="disabled", set_as_current=False)


class MemoryGuard:
    """What `RedisGuard` keeps in Redis (there it runs in tests/acceptance/test_tools.py)."""

    def __init__(self) -> None:
        self.marks: dict[str, str | None] = {}

    def begin(self, key: str) -> tuple[bool, str | None]:
        new = key not in self.marks
        return new, self.marks.setdefault(key, None)

    def end(self, key: str, result: str) -> None:
        self.marks[key] = result


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'tool.db'}", connect_args={"timeout": 20})
    with made.begin() as line:
        line.execute(text("CREATE TABLE payments (who TEXT)"))
    yield made
    made.dispose()


@pytest.fixture
def guard(engine: Engine) -> SqlGuard:
    made = SqlGuard(sessionmaker(engine))
    made.create(engine)
    made.create(engine)
    return made


def paid(engine: Engine) -> list[str]:
    with engine.connect() as line:
        return list(line.execute(text("SELECT who FROM payments")).scalars())


def paying(guard: SqlGuard, deaths: list[str]) -> Any:
    @at_most_once(guard)
    def pay(session: Session, who: str) -> dict[str, str]:
        session.execute(text("INSERT INTO payments VALUES (:who)"), {"who": who})
        if deaths:
            raise ConnectionError(deaths.pop())
        return {"paid": who}

    return app.task(name=f"pay-{id(guard)}-{len(deaths)}")(pay)


def deliver(task: Any, key: str, who: str) -> Any:
    return task.apply(args=[who], task_id=key, throw=True).get()


@pytest.mark.requirement("TOOL-12")
def test_in_sql_a_second_delivery_gets_the_result_of_the_first(engine: Engine, guard: SqlGuard) -> None:
    task = paying(guard, [])
    assert [deliver(task, "k1", "ann"), deliver(task, "k1", "ann"), deliver(task, "k2", "bob")] == [
        {"paid": "ann"}, {"paid": "ann"}, {"paid": "bob"},
    ]  # fmt: skip
    assert paid(engine) == ["ann", "bob"]


@pytest.mark.requirement("TOOL-12")
def test_in_sql_mark_and_effect_commit_together_or_not_at_all(engine: Engine, guard: SqlGuard) -> None:
    task = paying(guard, ["died before it committed"])
    with pytest.raises(ConnectionError):
        deliver(task, "k1", "ann")
    assert paid(engine) == []
    assert deliver(task, "k1", "ann") == {"paid": "ann"}
    assert paid(engine) == ["ann"]


@pytest.mark.requirement("TOOL-12")
def test_in_sql_two_deliveries_at_once_are_one_effect(engine: Engine, guard: SqlGuard) -> None:
    begun, told = threading.Barrier(2), []

    def act(session: Session) -> str:
        session.execute(text("INSERT INTO payments VALUES ('ann')"))
        return '"paid"'

    def one() -> None:
        begun.wait(10)
        told.append(guard.once("k1", act))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert told == ['"paid"', '"paid"']
    assert paid(engine) == ["ann"]


@pytest.mark.requirement("TOOL-12")
def test_marks_are_kept_for_as_long_as_the_tools_owner_wants(guard: SqlGuard) -> None:
    assert guard.once("k1", lambda _: "1") == "1"
    assert guard.purge(60) == 0
    assert guard.purge(-1) == 1
    assert guard.once("k1", lambda _: "2") == "2"


@pytest.mark.requirement("TOOL-12")
def test_a_mark_without_a_result_is_an_outcome_that_nobody_knows() -> None:
    marks = MemoryGuard()
    calls = []

    @at_most_once(marks)
    def act(fails: bool) -> list[int]:
        calls.append(fails)
        if fails:
            raise ConnectionError
        return [1]

    task = app.task(name="act")(act)
    with pytest.raises(ConnectionError):
        task.apply(args=[True], task_id="k1", throw=True)
    with pytest.raises(OutcomeUnknown):
        task.apply(args=[True], task_id="k1", throw=True)
    for _ in range(2):
        assert task.apply(args=[False], task_id="k2", throw=True).get() == [1]
    assert (calls, json.loads(marks.marks["k2"] or "")) == ([True, False], [1])


@pytest.mark.requirement("TOOL-12")
def test_outside_of_a_task_there_is_no_key() -> None:
    with pytest.raises(RuntimeError, match="needs a Celery task"):
        at_most_once(MemoryGuard())(lambda: None)()
