"""k8s/: valid as it would be applied, the same processes as the Procfile, restricted pods, patience at a stop."""

import re
from collections import Counter

import kubernetes_validate
import pytest

from tests.unit.manifests.kustomizing import Object, pod_of, render, variables
from tests.unit.manifests.places import (
    BASE,
    CLOSING_S,
    OVERLAYS,
    ROOT,
    SECRET,
    compose,
    emulator_variables,
    processes,
    settings,
)
from workers.cli.stack import EMULATOR_KEY

RENDERED = {name: render(path) for name, path in OVERLAYS.items()}
PODS = [
    pytest.param(each, id=f"{name}-{each['metadata']['name']}")
    for name, objects in RENDERED.items()
    for each in objects
    if pod_of(each)
]
SCALED = [each for each in RENDERED["production"] if each["kind"] == "ScaledObject"]
OURS = "fireworks-workers"
DEFAULT_GRACE_S = 30


def of_kind(overlay: str, kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in RENDERED[overlay] if each["kind"] == kind}


def container(each: Object) -> Object:
    [only] = pod_of(each)["containers"]
    return only


def faults(each: Object) -> str:
    """What the API of Kubernetes would say; own kinds of others are checked below."""
    try:
        kubernetes_validate.validate(each, "1.32", strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as exc:
        return str(exc) or type(exc).__name__
    return ""


@pytest.mark.requirement("OPS-02")
@pytest.mark.parametrize("overlay", RENDERED)
def test_what_would_be_applied_is_valid(overlay):
    core = [each for each in RENDERED[overlay] if each["kind"] != "ScaledObject"]
    assert len(core) > 20
    assert [found for each in core if (found := faults(each))] == []


def test_a_planted_fault_is_found():
    chat = of_kind("dev", "Deployment")["chat"]
    assert faults(chat | {"spec": chat["spec"] | {"replicsa": 2}})
    assert faults(chat | {"spec": chat["spec"] | {"minReadySeconds": "five"}})


@pytest.mark.requirement("OPS-02")
def test_procfile_and_deployments_name_the_same_processes():
    at_home = [name for name in processes() if name != "emulator"]
    for overlay, expected in {"dev": processes(), "production": at_home}.items():
        found = {name: container(each)["args"] for name, each in of_kind(overlay, "Deployment").items()}
        assert found == {name: ["process", name] for name in expected}
        assert container(of_kind(overlay, "Job")["migrate"])["args"] == ["migrate"]


@pytest.mark.requirement("OPS-02")
@pytest.mark.parametrize("each", PODS)
def test_a_pod_meets_the_restricted_standard_and_writes_only_where_it_may(each):
    pod = pod_of(each)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(each)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert all("emptyDir" in volume for volume in pod.get("volumes", []))


@pytest.mark.parametrize("each", PODS)
def test_a_pod_says_what_it_needs_and_its_memory_ends_somewhere(each):
    resources = container(each)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    # A CPU limit would stop the loop in the middle of renewing leases.
    assert resources["limits"].keys() == {"memory"}


@pytest.mark.parametrize("overlay", RENDERED)
def test_namespaces_refuse_what_is_not_restricted(overlay):
    [namespace] = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.requirement("OPS-09")
@pytest.mark.parametrize("name", ["chat", "chat-bg", "stt", "batch", "control"])
def test_a_pod_is_killed_only_after_it_could_hand_its_runs_over(name):
    deployment = of_kind("production", "Deployment")[name]
    own = {each["name"]: each["value"] for each in container(deployment).get("env", [])}
    drain_s = float((variables(BASE / "settings.env") | own)["FW_DRAIN_S"])
    assert pod_of(deployment)["terminationGracePeriodSeconds"] >= drain_s + CLOSING_S
    assert (drain_s > 25) == (name == "stt")
    # The entrypoint becomes the process; a shell or a hook would stand between it and SIGTERM.
    assert not container(deployment).keys() & {"command", "lifecycle"}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = of_kind("production", "PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", processes())
def test_a_process_is_asked_whether_it_lives_and_is_ready(name):
    asked = container(of_kind("dev", "Deployment")[name])
    ports = {port["name"] for port in asked["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert asked[probe]["httpGet"]["port"] in ports
    if "monitor" in ports:
        assert (asked["livenessProbe"]["httpGet"]["path"], asked["readinessProbe"]["httpGet"]["path"]) == (
            "/live",
            "/ready",
        )
        # Longer than a garbage collection or a slow disk: a restart costs every run a handover.
        assert asked["livenessProbe"]["failureThreshold"] * asked["livenessProbe"]["periodSeconds"] >= 60


@pytest.mark.parametrize("overlay", RENDERED)
def test_every_variable_is_a_setting_and_every_reference_has_its_place(overlay):
    maps = of_kind(overlay, "ConfigMap")
    for each in filter(pod_of, RENDERED[overlay]):
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "store":
            continue
        named = {variable["name"] for variable in container(each).get("env", [])}
        for source in container(each).get("envFrom", []):
            if "configMapRef" in source:
                named |= maps[source["configMapRef"]["name"]]["data"].keys()
        assert named - settings() == set(), each["metadata"]["name"]


@pytest.mark.requirement("OPS-02")
def test_no_secret_is_in_the_repository():
    assert [each for objects in RENDERED.values() for each in objects if each["kind"] == "Secret"] == []
    for path in (ROOT / "k8s").rglob("*.env"):
        given = {name: value for name, value in variables(path).items() if SECRET.search(name)}
        assert set(given.values()) <= {EMULATOR_KEY, "postgresql://fireworks@postgres:5432/fireworks"}, path
    assert not any("secretGenerator" in path.read_text() for path in (ROOT / "k8s").rglob("kustomization.yaml"))


def test_each_process_is_given_only_the_secrets_that_it_needs():
    given = {
        name: {
            source["secretRef"]["name"].removeprefix(f"{OURS}-")
            for source in container(each)["envFrom"]
            if "secretRef" in source
        }
        for name, each in of_kind("production", "Deployment").items()
    }
    worker = {"connections", "provider"}
    assert given == dict.fromkeys(("chat", "chat-bg", "stt", "batch", "control"), worker) | {
        "beat": {"connections"},
        "flower": {"connections", "flower"},
    }


def test_nothing_goes_in_or_out_but_what_is_named():
    for overlay in RENDERED:
        policies = of_kind(overlay, "NetworkPolicy")
        assert policies["nothing-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        into = {
            rule["port"]
            for name in ("monitoring", "flower")
            for each in policies[name]["spec"]["ingress"]
            for rule in each["ports"]
        }
        assert into == {9464, 5555}
    outside = of_kind("production", "NetworkPolicy")["provider"]["spec"]
    assert outside["egress"][0]["ports"] == [{"protocol": "TCP", "port": 443}]
    assert "169.254.0.0/16" in outside["egress"][0]["to"][0]["ipBlock"]["except"]


@pytest.mark.parametrize("overlay", RENDERED)
def test_no_name_is_there_twice(overlay):
    counted = Counter((each["kind"], each["metadata"]["name"]) for each in RENDERED[overlay])
    assert max(counted.values()) == 1


def test_the_stores_of_dev_are_those_of_compose():
    services = compose(emulator_variables())["services"]
    for name, each in of_kind("dev", "StatefulSet").items():
        assert container(each)["image"] == services[name]["image"]


@pytest.mark.requirement("OPS-09")
@pytest.mark.parametrize("each", SCALED, ids=lambda each: each["metadata"]["name"])
def test_a_scaled_object_has_the_form_that_keda_wants(each):
    assert each["apiVersion"] == "keda.sh/v1alpha1"
    spec = each["spec"]
    assert spec.keys() == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "fallback", "advanced", "triggers",
    }  # fmt: skip
    deployment = of_kind("production", "Deployment")[spec["scaleTargetRef"]["name"]]
    # The number is KEDA's: an apply must not reset it.
    assert "replicas" not in deployment["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    for trigger in spec["triggers"]:
        assert trigger.keys() == {"type", "metricType", "metadata"}
        assert trigger["type"] == "prometheus"
        assert trigger["metricType"] in {"Value", "AverageValue"}
        assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert float(trigger["metadata"]["threshold"]) > 0
    # KEDA's fallback needs a trigger of this kind.
    assert any(trigger["metricType"] == "AverageValue" for trigger in spec["triggers"])


@pytest.mark.requirement("OPS-09")
@pytest.mark.parametrize("each", SCALED, ids=lambda each: each["metadata"]["name"])
def test_scaling_down_takes_one_pod_and_gives_it_time_to_hand_over(each):
    down = each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    [policy] = down["policies"]
    deployment = of_kind("production", "Deployment")[each["metadata"]["name"]]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= pod_of(deployment)["terminationGracePeriodSeconds"]


@pytest.mark.requirement("OPS-09")
def test_scaling_follows_the_oldest_the_sessions_and_the_lag():
    asked = {each["metadata"]["name"]: set(re.findall(r"fw_\w+", str(each["spec"]["triggers"]))) for each in SCALED}
    assert asked == {
        "chat": {"fw_queue_oldest_seconds", "fw_queue_waiting", "fw_slots"},
        "chat-bg": {"fw_queue_waiting", "fw_slots"},
        "stt": {"fw_stt_sessions", "fw_stt_audio_lag_seconds", "fw_queue_oldest_seconds"},
        "batch": {"fw_queue_waiting"},
    }
