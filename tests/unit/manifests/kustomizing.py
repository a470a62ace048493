"""The part of kustomize that k8s/ uses, so that a machine without kubectl validates what would be applied.

It refuses what it does not know instead of leaving it out. Where kubectl is there, a test holds it against that.
"""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

# Fields by which the API's own lists are merged; every other list is replaced whole.
_MERGE_KEYS = {
    "containers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
}
_KNOWN = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "patches", "images", "namespace"}


def render(folder: Path) -> list[Object]:
    """The objects that `kubectl apply -k folder` would send. Generated names go without their hash."""
    given = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert given.keys() <= _KNOWN, f"{folder}: {given.keys() - _KNOWN} is not known here"
    objects = [each for path in given.get("resources", []) for each in _resource(folder / path)]
    for generator in given.get("configMapGenerator", []):
        _generate(objects, generator, folder)
    for path in given.get("components", []):
        objects += render(folder / path)
    for patch in given.get("patches", []):
        _patch(objects, patch, folder)
    for image in given.get("images", []):
        _rename(objects, image)
    for each in objects if "namespace" in given else ():
        if each["kind"] != "Namespace":
            each["metadata"]["namespace"] = given["namespace"]
    return objects


def variables(path: Path) -> dict[str, str]:
    """The variables of an .env file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def pod_of(each: Object) -> Object | None:
    """The pod of a Deployment, StatefulSet or Job."""
    return each["spec"]["template"]["spec"] if each["kind"] in {"Deployment", "StatefulSet", "Job"} else None


def _resource(path: Path) -> list[Object]:
    # YAML's anchors make one object of two; each needs its own.
    return render(path) if path.is_dir() else copy.deepcopy([*yaml.safe_load_all(path.read_text())])


def _generate(objects: list[Object], generator: Object, folder: Path) -> None:
    assert generator.keys() <= {"name", "envs", "behavior"}
    data = {name: value for file in generator["envs"] for name, value in variables(folder / file).items()}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}
    if generator.get("behavior") == "merge":
        [merged] = [
            each for each in objects if each["kind"] == "ConfigMap" and each["metadata"]["name"] == generator["name"]
        ]
        merged["data"] |= data
    else:
        objects.append(made)


def _patch(objects: list[Object], patch: Object, folder: Path) -> None:
    assert patch.keys() <= {"path", "target"}
    change = yaml.safe_load((folder / patch["path"]).read_text())
    target = patch.get("target") or {"kind": change["kind"], "name": change["metadata"]["name"]}
    assert target.keys() <= {"kind", "name", "labelSelector"}
    wanted = dict(each.split("=") for each in target.get("labelSelector", "").split(",") if each)
    chosen = [
        each
        for each in objects
        if each["kind"] == target["kind"]
        and re.fullmatch(target.get("name", ".*"), each["metadata"]["name"])
        and wanted.items() <= each["metadata"].get("labels", {}).items()
    ]
    assert chosen, f"{patch} changes nothing"
    for each in chosen:
        name = each["metadata"]["name"]
        merged = merge(each, change)
        merged["metadata"]["name"] = name
        each.update(merged)


def merge(given: Any, change: Any, field: str = "") -> Any:
    """A strategic merge; values are copied."""
    if isinstance(given, dict) and isinstance(change, dict):
        return given | {key: merge(given.get(key), value, key) for key, value in change.items()}
    if isinstance(given, list) and isinstance(change, list) and field in _MERGE_KEYS:
        by = _MERGE_KEYS[field]
        found = {each[by]: each for each in given}
        return [*({**found, **{each[by]: merge(found.get(each[by]), each) for each in change}}.values())]
    return copy.deepcopy(change)


def _rename(objects: list[Object], image: Object) -> None:
    assert image.keys() <= {"name", "newName", "newTag"}
    for pod in filter(None, map(pod_of, objects)):
        for container in pod["containers"]:
            if container["image"] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
