"""AsyncAPI's own parser takes our document, and finds in it what we promise. It needs npm, and a registry once."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api_contracts import keys, names
from api_contracts.publishing import asyncapi
from api_contracts.signals import SIGNALS
from api_contracts.vocabulary import EVENT_TYPES

HERE = Path(__file__).parent
NEEDED = ("package.json", "package-lock.json", ".npmrc")
ERROR, WARNING = 0, 1
"""The parser's own severities; what is less is advice."""

pytestmark = [pytest.mark.requirement("RUN-15"), pytest.mark.skipif(not shutil.which("npm"), reason="no npm here")]


@pytest.fixture(scope="module")
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the parser of the lock file; it is installed once and kept in pytest's cache."""
    lock = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in NEEDED)).hexdigest()[:16]
    kept: Path = request.config.cache.mkdir("asyncapi") / lock
    if not kept.exists():
        made = tmp_path_factory.mktemp("asyncapi")
        for name in NEEDED:
            shutil.copy(HERE / name, made)
        try:
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts"], cwd=made, capture_output=True, text=True, timeout=240, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip("AsyncAPI's parser is not checked with: npm got no answer within 240 s")
        if done.returncode:
            pytest.skip(f"AsyncAPI's parser is not checked with: npm ci failed: {done.stderr.strip()[-300:]}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(made, kept)
    shutil.copy(HERE / "check.mjs", kept)
    return kept


def parsed(parser: Path, folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return what the parser says of a document."""
    file = folder / "asyncapi.json"
    file.write_text(json.dumps(document))
    done = subprocess.run(
        ["node", parser / "check.mjs", file], cwd=parser, capture_output=True, text=True, timeout=120, check=True
    )
    return dict(json.loads(done.stdout))


def troubles(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in said["diagnostics"] if each["severity"] in (ERROR, WARNING)]


def test_the_official_parser_finds_no_fault_in_the_document_and_every_channel_in_it(
    parser: Path, tmp_path: Path
) -> None:
    said = parsed(parser, tmp_path, asyncapi("1.0"))
    assert troubles(said) == []
    found = said["messages"]
    queues = {names.queue_of(kind, lane) for kind in names.TASK_OF for lane in ("interactive", "background")}
    assert queues | {names.CONTROL_QUEUE} | {keys.address(each) for each in ("events", "inbox", "audio")} == set(found)
    assert found[names.queue_of("chat")] == [names.CHAT, names.CITE]
    assert set(found[keys.address("events")]) == set(EVENT_TYPES)
    assert set(found[keys.address("inbox")]) == set(SIGNALS)


@pytest.mark.parametrize("place", ["a channel's address", "a message's schema", "a reference"])
def test_the_official_parser_finds_a_fault_where_there_is_one(parser: Path, tmp_path: Path, place: str) -> None:
    document = asyncapi("1.0")
    if place == "a channel's address":
        document["channels"]["events"]["address"] = 5
    elif place == "a message's schema":
        document["components"]["schemas"]["ChatDelta"]["type"] = "no type"
    else:
        document["channels"]["inbox"]["messages"]["cancel"]["$ref"] = "#/components/messages/nowhere"
    assert troubles(parsed(parser, tmp_path, document)) != []
