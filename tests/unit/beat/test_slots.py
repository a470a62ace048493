"""Which tick is meant: two beats that look at the same moment must find the same one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from hypothesis import given
from hypothesis import strategies as st

from api_contracts import keys
from workers.beat.slots import tick_of

NOW = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
MOMENTS = st.floats(0, 10_000_000).map(lambda s: NOW + timedelta(seconds=s))


@pytest.fixture(scope="module")
def app() -> Celery:
    return Celery("slots", set_as_current=False)


@pytest.mark.requirement("OPS-04")
@given(every_s=st.floats(1, 100_000), now=MOMENTS, last=st.none() | MOMENTS)
def test_a_slot_of_seconds_depends_on_the_moment_only(every_s: float, now: datetime, last: datetime | None) -> None:
    tick = tick_of(schedule(every_s), last, now)
    assert tick == tick_of(schedule(every_s), None, now)
    assert now - timedelta(seconds=every_s, milliseconds=1) <= tick.ran_at <= now


def test_slots_of_seconds_lie_on_a_grid_whenever_beat_comes() -> None:
    ticks = [tick_of(schedule(60), None, NOW + timedelta(seconds=late)) for late in (0, 0.2, 59.9, 60, 200)]
    assert [tick.slot - ticks[0].slot for tick in ticks] == [0, 0, 0, 60, 180]
    assert [tick.ran_at.second for tick in ticks] == [0] * 5


@pytest.mark.requirement("OPS-04")
def test_a_slot_of_cron_is_the_first_time_after_the_last_run_however_late_beat_is(app: Celery) -> None:
    timing = crontab(minute="0", hour="7", app=app)
    last = datetime(2026, 11, 20, 7, 0, 3, tzinfo=UTC)
    slots = {tick_of(timing, last, NOW + timedelta(seconds=late)).slot for late in (0, 1, 7200)}
    assert slots == {int(datetime(2026, 11, 21, 7, tzinfo=UTC).timestamp())}


@pytest.mark.parametrize(("day", "hour_utc"), [("2026-07-01", 5), ("2026-12-01", 6)])
def test_cron_keeps_the_clock_of_its_time_zone_in_summer_and_winter(app: Celery, day: str, hour_utc: int) -> None:
    timing = crontab(minute="0", hour="7", app=app)
    timing.tz = ZoneInfo("Europe/Oslo")
    last = datetime.fromisoformat(f"{day}T00:30:00+00:00")
    tick = tick_of(timing, last, last + timedelta(hours=8))
    assert datetime.fromtimestamp(tick.slot, UTC) == datetime.fromisoformat(f"{day}T{hour_utc:02}:00:00+00:00")


def test_entry_and_slot_make_the_id() -> None:
    assert keys.derived_tick_id("a", 60) == keys.derived_tick_id("a", 60)
    ids = {keys.derived_tick_id(name, slot) for name in ("a", "b") for slot in (60, 120)}
    assert len(ids) == 4
    assert all(keys.check_run_id(each) for each in ids)
