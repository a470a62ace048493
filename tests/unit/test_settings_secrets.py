"""Settings hold keys and passwords; neither their text nor what is said about a fault shows one."""

import pytest
from pydantic import ValidationError

from api_contracts.client import ClientSettings
from api_contracts.names import CONTROL_QUEUE, PURGE
from workers.app import configuration
from workers.errors import Misconfigured
from workers.settings import Settings, read_settings

URL = "redis://user:hush-redis@localhost/0"
GIVEN = {
    "redis_url": URL, "broker_url": "amqp://user:hush-broker@localhost//", "database_url": "postgresql://u:hush-sql@h/d",
    "signing_keys": "hush-signing-key-of-32-characters",
}  # fmt: skip


@pytest.mark.requirement("OPS-13")
def test_the_text_of_settings_shows_no_secret() -> None:
    settings = Settings(**GIVEN, api_key="hush-own", credentials={"eu": "hush-eu"}, flower_auth="u:hush-flower")
    assert "hush" not in f"{settings!r} {settings} {settings.signing!r} {ClientSettings(**GIVEN)!r}"


@pytest.mark.requirement("OPS-13", "OPS-17")
@pytest.mark.parametrize(
    "fault",
    [{"signing_keys": "hush-short"}, {"signing_keys": f"{'hush' * 8},hush"}, {"credentials": {"eu": ["hush"]}},
     {"credentials": ["hush"]}, {"redis_url": "http://user:hush-redis@localhost"}, {"api_key": ["hush"]},
     {"redis_url": URL, "lease_s": 1, "renew_s": 2}, {"redis_url": URL, "retention_s": 9, "sql_retention_s": 8}],
)  # fmt: skip
def test_a_fault_in_the_settings_is_told_without_its_value(
    fault: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FW_REDIS_URL", URL)
    with pytest.raises(Misconfigured) as caught:
        read_settings(**fault)
    assert str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.requirement("OPS-13")
def test_a_client_with_a_key_that_can_be_guessed_is_told_so_without_the_key() -> None:
    with pytest.raises(ValidationError, match="give each 32 or more") as caught:
        ClientSettings(redis_url=URL, signing_keys="hush")
    assert "hush" not in str(caught.value)


@pytest.mark.requirement("RUN-11")
def test_results_outlast_journals_or_are_kept_for_ever() -> None:
    with pytest.raises(ValidationError, match="FW_SQL_RETENTION_S: must be 0, or no shorter than FW_RETENTION_S"):
        Settings(**GIVEN, retention_s=9, sql_retention_s=8)
    assert [Settings(**GIVEN, retention_s=9, sql_retention_s=each).sql_retention_s for each in (0, 9)] == [0, 9]


@pytest.mark.requirement("RUN-11")
def test_beat_rings_for_the_purge_unless_results_are_kept_for_ever() -> None:
    ticks = configuration(Settings(**GIVEN))["beat_schedule"]
    assert ticks[PURGE]["options"]["queue"] == CONTROL_QUEUE
    assert PURGE not in configuration(Settings(**GIVEN, sql_retention_s=0))["beat_schedule"]
