"""docker-compose.yml: valid, the same processes as the Procfile, hardened, and it waits long enough for a drain."""

import json
import re

import pytest
from compose_spec import PyCompose

from tests.unit.manifests.places import (
    CLOSING_S,
    ROOT,
    SECRET,
    NotGivenError,
    compose,
    emulator_variables,
    processes,
    seconds,
    settings,
)

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES = compose(emulator_variables())["services"]
OURS = {name: each for name, each in SERVICES.items() if each.get("build")}
DRAINING = [name for name in OURS if name not in {"beat", "flower", "emulator", "migrate"}]
SECRETS = {"FIREWORKS_API_KEY", "POSTGRES_PASSWORD", "FW_FLOWER_AUTH", "GRAFANA_PASSWORD"}


def validate(text: str) -> None:
    PyCompose.from_json(json.dumps(compose(emulator_variables(), text)))


@pytest.mark.requirement("OPS-02")
def test_the_file_is_valid_compose():
    validate(TEXT)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("cap_drop:", "cap_dorp:"), ("service_healthy", "service_well"), ("grace_period: 45s", "grace_period: soon")],
)
def test_a_planted_fault_is_found(right, wrong):
    assert right in TEXT
    with pytest.raises(ValueError, match=r".+"):
        validate(TEXT.replace(right, wrong, 1))


@pytest.mark.requirement("OPS-02")
def test_procfile_and_compose_name_the_same_processes():
    commands = {name: each["command"] for name, each in OURS.items()}
    assert commands == {name: ["process", name] for name in processes()} | {"migrate": ["migrate"]}


@pytest.mark.requirement("OPS-02")
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_no_root_and_has_nothing_that_it_does_not_need(name):
    service = SERVICES[name]
    uid = service["user"].partition(":")[0]
    assert uid.isdigit()
    assert int(uid) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_restarted_and_says_whether_it_is_well(name):
    service = SERVICES[name]
    assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped")
    # Beat answers no HTTP, and a migration ends.
    assert ("test" in service["healthcheck"]) == (name != "migrate")


@pytest.mark.parametrize("name", DRAINING)
def test_sigkill_comes_only_after_the_drain(name):
    service = OURS[name]
    assert seconds(service["stop_grace_period"]) >= float(service["environment"]["FW_DRAIN_S"]) + CLOSING_S


def test_sessions_have_longer_to_be_handed_over_than_other_runs():
    drains = {name: float(OURS[name]["environment"]["FW_DRAIN_S"]) for name in DRAINING}
    assert drains.pop("stt") > max(drains.values())


@pytest.mark.parametrize("name", [name for name in OURS if name not in {"emulator", "migrate"}])
def test_a_process_starts_when_its_stores_are_well_and_the_schema_is_up(name):
    assert OURS[name]["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "postgres": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_every_variable_of_a_process_is_a_setting():
    named = {variable for each in OURS.values() for variable in each["environment"]}
    assert named - settings() == set()


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_secret_that_is_not_given_is_asked_for_by_name(missing):
    given = {name: value for name, value in emulator_variables().items() if name != missing}
    with pytest.raises(NotGivenError, match=rf"^{missing}: .*set it in \.env.*emulator\.env"):
        compose(given)


def test_no_secret_is_written_down():
    for name, value in re.findall(r"^ +(\w+): (.+)$", TEXT, flags=re.MULTILINE):
        if SECRET.search(name):
            assert "${" in value, name


def test_the_stand_in_needs_no_key_and_its_file_holds_no_secret():
    given = emulator_variables()
    assert given["COMPOSE_PROFILES"] == SERVICES["emulator"]["profiles"][0]
    assert {name for name in given if SECRET.search(name)} == SECRETS
    assert {given[name] for name in SECRETS} <= {"emulator", "emulator:emulator", "fw_emulator"}
    assert "//emulator:8788" in OURS["chat"]["environment"]["FIREWORKS_BASE_URL"]
    assert set(given) - SECRETS - {"COMPOSE_PROFILES"} <= settings()


def test_only_loopback_is_published():
    published = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_image_of_others_has_an_exact_tag():
    images = {name: each["image"] for name, each in SERVICES.items() if name not in OURS}
    assert all(re.search(r":v?\d+\.\d+", image) for image in images.values()), images


def test_redis_keeps_its_journals():
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_only_the_workers_are_given_the_providers_key():
    holders = {name for name, each in OURS.items() if "FIREWORKS_API_KEY" in each["environment"]}
    assert holders == {"chat", "chat-bg", "stt", "batch", "control"}
