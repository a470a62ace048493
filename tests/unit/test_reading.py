"""Settings from the environment: every fault at once, one line each, and never a secret."""

from decimal import Decimal

import pytest

from workers.errors import Misconfigured
from workers.settings import OF_COMMANDS, check_environment, known_variables, read_settings

SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture(autouse=True)
def _redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FW_REDIS_URL", "redis://somewhere:6379/0")


def faults(monkeypatch: pytest.MonkeyPatch, **given: str) -> list[str]:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as refused:
        read_settings()
    assert SECRET not in str(refused.value)
    return str(refused.value).splitlines()


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FW_LEASE_S", "0.1", "'0.1': must be a number from 0.5 to 300"),
        ("FW_LEASE_S", SECRET, "must be a number from 0.5 to 300"),
        ("FW_CONCURRENCY", "2.5", "'2.5': must be a whole number from 1 to 10000"),
        ("FW_MONITOR_PORT", "http", "'http': must be a whole number from 0 to 65535"),
        ("FW_LOG_LEVEL", "loud", "Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("FW_REDIS_URL", f"http://:{SECRET}@host", "must begin with redis:// or rediss://"),
        ("FW_REDIS_URL", f"redis://:{SECRET}#1@host", "is what is special in the password %-encoded?"),
        ("FW_REDIS_URL", f"redis://:{SECRET}@host/0#1", "has a '#': write %23 where it is part of the password"),
        ("FW_REDIS_URL", "redis://:6379/0", "names no host: write redis://host"),
        ("FW_REDIS_URL", "redis://host:port/0", "is its port a number"),
        ("FW_BROKER_URL", f"kafka://:{SECRET}@host", "must begin with redis:// or rediss:// or amqp:// or amqps://"),
        ("FW_BROKER_URL", "redis://one;sqs://two", "must begin with redis://"),
        ("FW_DATABASE_URL", f"mysql://u:{SECRET}@h/x", "must begin with sqlite:// or postgresql://"),
        ("FW_CREDENTIALS", SECRET, 'is no JSON object: write {"name": "key"}'),
        ("FW_CREDENTIALS", f'["{SECRET}"]', 'is no JSON object: write {"name": "key"}'),
        ("FW_CREDENTIALS", '{"team": 1}', "['team']: Input should be a valid string"),
        ("FW_SIGNING_KEYS", f"{'k' * 32},{SECRET}", "key 2 has 23 characters: give each 32 or more"),
        ("FIREWORKS_BASE_URL", "https://api.fireworks.ai", "has no path: it must end like https://"),
        ("FIREWORKS_BASE_URL", "api.fireworks.ai/inference/v1", "must begin with http:// or https://"),
        ("FIREWORKS_API_URL", "https://api.fireworks.ai/v1/", "must end before /v1, which is added here"),
        ("FIREWORKS_AUDIO_STREAMING_URL", "https://audio", "must begin with ws:// or wss://"),
        ("FW_RENEW_S", "10", "must be shorter than FW_LEASE_S"),
    ],
)
def test_a_fault_names_the_variable_and_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    (fault,) = faults(monkeypatch, **{name: value})
    assert fault.startswith(name)
    assert said in fault


@pytest.mark.requirement("OPS-17")
def test_all_faults_are_told_at_once_those_between_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"FW_POLL_S": "often", "FW_RENEW_S": "12", "FW_CREDENTIALS": "{", "FW_LEASE": "5", "FW_BROKER_URL": "x"}
    told = faults(monkeypatch, **given)
    assert sorted(line.partition(":")[0] for line in told) == sorted(given)


@pytest.mark.requirement("OPS-17")
def test_what_is_needed_and_not_set_is_said_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, FW_REDIS_URL="") == [
        "FW_REDIS_URL: is not set; Redis of the journals and of Celery's results, `redis://` or `rediss://`"
    ]


@pytest.mark.requirement("OPS-17")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FW_LEASE", "unknown setting; did you mean FW_LEASE_S?"),
        ("FW_REDIS", "unknown setting; did you mean FW_REDIS_URL?"),
        ("fw_brokerurl", "unknown setting; did you mean FW_BROKER_URL?"),
        ("FW_QQQQQQQ", "unknown setting: unset it"),
    ],
)
def test_a_variable_that_nothing_reads_is_a_fault(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    assert faults(monkeypatch, **{name: SECRET}) == [f"{name}: {said}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FW_TEST_REDIS_URL", "redis://x"),
        ("FW_OUTAGE_S", "5"),
        ("FW_EMULATOR_PORT", "1"),
        ("FW_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("FW_REDIS_SERVICE_PORT_REDIS", "6379"),
        ("FW_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("FW_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("FIREWORKS_SOMETHING", "of another program"),
    ],
)
def test_what_others_read_is_left_alone_and_what_kubernetes_says_of_its_services(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FW_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//"),
        ("FW_BROKER_URL", "redis://one:6379/0;redis://two:6379/0"),
        ("FW_DATABASE_URL", "sqlite:////var/lib/runs.sqlite3"),
        ("FW_DATABASE_URL", "sqlite:///runs.sqlite3"),
        ("FW_DATABASE_URL", "postgresql:///runs?host=/run/postgresql"),
        ("FW_DATABASE_URL", "postgresql+psycopg://u:p@h:5432/x?sslmode=require"),
        ("FW_REDIS_URL", "rediss://u:p%40ss@h:6380/3?ssl_ca_certs=/ca.pem"),
        ("FW_REDIS_URL", "redis://[::1]:6379/0"),
        ("FIREWORKS_BASE_URL", "http://127.0.0.1:8788/inference/v1/"),
    ],
)
def test_urls_that_are_fine_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    read = read_settings().model_dump()
    assert value in read.values()


def test_credentials_are_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FW_CREDENTIALS", '{"team": "key"}')
    assert read_settings().credentials["team"].get_secret_value() == "key"
    assert read_settings(credentials={"other": "x"}).credentials["other"].get_secret_value() == "x"


@pytest.mark.requirement("OPS-17", "CHAT-20")
def test_prices_are_decimals_and_those_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FW_REDIS_URL", "redis://r")
    monkeypatch.setenv("FW_PRICES", '{"m": {"prompt": 0.1, "completion": "0.30"}}')
    price = read_settings().prices["m"]
    assert (price.prompt, price.completion, price.cached) == (Decimal("0.1"), Decimal("0.3"), None)
    for wrong in (
        '{"m": {"prompt": 1}}',
        '{"m": {"prompt": -1, "completion": 1}}',
        '{"m": 3}',
        "m=3",
        '{"m": {"prompt": "NaN", "completion": 1}}',
        '{"m": {"prompt": 1, "completion": 1, "cache": 1}}',
    ):
        monkeypatch.setenv("FW_PRICES", wrong)
        with pytest.raises(Misconfigured, match="FW_PRICES"):
            read_settings()


@pytest.mark.requirement("OPS-12", "OPS-17")
def test_budgets_are_decimals_and_those_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FW_REDIS_URL", "redis://r")
    monkeypatch.setenv("FW_BUDGETS", '{"day": {"limit": 0.1}, "team": {"limit": "5", "window_s": 60, "by": ["team"]}}')
    found = read_settings().budgets
    assert (found["day"].limit, found["day"].window_s, found["day"].by) == (Decimal("0.1"), 86_400, ("tenant",))
    assert (found["team"].window_s, found["team"].by) == (60, ("team",))
    for wrong in (
        '{"day": {}}',
        '{"day": {"limit": 0}}',
        '{"day": {"limit": "0.00000000001"}}',
        '{"day": {"limit": 1e7}}',
        '{"day": {"limit": 1, "window_s": 1.5}}',
        '{"day": {"limit": 1, "window": 60}}',
        "day=3",
    ):
        monkeypatch.setenv("FW_BUDGETS", wrong)
        with pytest.raises(Misconfigured, match="FW_BUDGETS"):
            read_settings()


@pytest.mark.requirement("OPS-17")
def test_a_command_needs_nothing_set_but_refuses_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FW_REDIS_URL")
    check_environment()
    monkeypatch.setenv("FW_OUTAGE_S", "long")
    monkeypatch.setenv("FW_LIVE_TTL_S", "1")
    with pytest.raises(Misconfigured) as refused:
        check_environment()
    assert str(refused.value).splitlines() == [
        "FW_LIVE_TTL_S: '1': must be a number from 60",
        "FW_OUTAGE_S: 'long': must be a number from 0",
    ]


def test_every_variable_is_known_once() -> None:
    known = known_variables()
    assert {"FW_REDIS_URL", "FW_TENANT", "FIREWORKS_API_KEY", "FW_STATE_DIR"} <= known
    assert not OF_COMMANDS & (known - OF_COMMANDS)
    assert all(name.startswith(("FW_", "FIREWORKS_")) for name in known)
