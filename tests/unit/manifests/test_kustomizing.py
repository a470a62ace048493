"""Our reading of kustomize against kubectl's, where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.manifests.kustomizing import Object, merge, render
from tests.unit.manifests.places import OVERLAYS


def test_a_merge_changes_what_it_names_and_keeps_the_rest():
    given = {"spec": {"containers": [{"name": "a", "image": "x", "args": ["1", "2"]}], "keep": 1}}
    change = {"spec": {"containers": [{"name": "a", "args": ["3"]}, {"name": "b"}], "new": {"deep": 1}}}
    assert merge(given, change) == {
        "spec": {
            "containers": [{"name": "a", "image": "x", "args": ["3"]}, {"name": "b"}],
            "keep": 1,
            "new": {"deep": 1},
        }
    }


def test_what_is_not_known_is_refused(tmp_path):
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    with pytest.raises(AssertionError, match="namePrefix"):
        render(tmp_path)


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not installed: k8s/ is read by our own reading only"
)
@pytest.mark.parametrize("folder", OVERLAYS.values(), ids=OVERLAYS)
def test_kubectl_makes_the_same_of_it(folder: Path):
    made = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    # Names of generated maps end in a hash of what they hold, which rolls the pods.
    plain = re.sub(r"(fireworks-workers-settings)-[a-z0-9]{10}\b", r"\1", made)
    assert plain != made
    assert by_name([*yaml.safe_load_all(plain)]) == by_name(render(folder))


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}
