"""Real voices and real recognisers: what three killed workers cost in words is measured, not assumed.

Only by `make voices`: the recording lasts 27 s and is played three times to each engine, a minute each on a slow core.
"""

import importlib.util
import itertools
import os
import statistics
import sys
from collections.abc import Iterator, Sequence

import pytest

from api_contracts.stt import SttFinal
from tests.acceptance.cluster import Cluster
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type
from tests.acceptance.voices.recording import error_rate, recording
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.cli.demo.speaking import Speaker
from workers.emulator.scenes import Scene
from workers.emulator.speech import SpeechConfig
from workers.emulator.speech.engines import Engines

pytestmark = pytest.mark.skipif(os.environ.get("FW_TEST_VOICES") != "1", reason="a minute of hearing: `make voices`")

WORKERS = ("stt-1", "stt-2")
MOST_POINTS = 2.0
"""So much worse than the engine's own error may a session be that lost its worker three times."""
DIES_AFTER = ((12, 26, 40), (16, 28, 45), (8, 40, 44))
"""Words that are final when a worker is killed, in one play after the other: one word is 1.4 of a play's points, so a
single play says little."""


def engine(name: str, package: str, extra: str) -> object:
    missing = importlib.util.find_spec(package) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{name}: the extra `{extra}` is not installed"))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("voices")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="1.0", FW_SWEEP_S="0.5")
        try:
            yield made
        finally:
            made.close()


def own_error(name: str, pcm: bytes, said: list[str]) -> float:
    """Return the engine's own error rate on the file in one piece."""
    alone = Engines(SpeechConfig(engine=name)).make()  # type: ignore[arg-type]
    words = [*alone.feed(pcm).settled, *alone.finish().settled]
    alone.close()
    return error_rate(said, [word.text for word in words])


def listening_with(cluster: Cluster, name: str) -> None:
    """Start a provider that hears with this engine, and two workers that use it."""
    scene = cluster.folder / f"{name}.json"
    scene.write_text(Scene(name=name, speech=SpeechConfig(engine=name)).model_dump_json())
    options = ("--port", "0", "--pace", "0", "--scene", str(scene))
    provider = cluster.start(name, sys.executable, "-m", "workers.cli", "emulator", *options).ready("listening on")
    url = provider.log().split("listening on ")[1].split()[0].replace("http", "ws", 1)
    cluster.env["FIREWORKS_AUDIO_STREAMING_URL"] = f"{url}/v1"
    cluster.keep(cluster.speech_worker, *WORKERS)


@pytest.mark.requirement("STT-10")
@pytest.mark.parametrize(
    "name", [engine("pocketsphinx", "pocketsphinx", "emulator"), engine("whisper", "faster_whisper", "whisper")]
)
def test_three_killed_workers_cost_a_real_voice_next_to_nothing(lasting: Cluster, name: str) -> None:
    pcm, said = recording()
    own = own_error(name, pcm, said)
    listening_with(lasting, name)
    heard = [played(lasting, pcm, dies_after) for dies_after in DIES_AFTER]
    errors = [error_rate(said, words) for words in heard]
    rates = ", ".join(f"{error:.1f}" for error in errors)
    print(f"{name}: {rates} % of the words wrong after three kills each, {own:.1f} % by itself")  # noqa: T201
    assert statistics.mean(errors) <= own + MOST_POINTS, [" ".join(words) for words in heard]


def played(cluster: Cluster, pcm: bytes, dies_after: Sequence[int]) -> list[str]:
    """Hold a session whose workers are killed; return the words of its result, of which none is lost or doubled."""
    session = cluster.client.stt.open()
    killed = []
    with Speaker(session, pcm):
        for words in dies_after:
            eventually(lambda words=words: len(session_finals(cluster, session.run_id)) >= words, within=60)
            killed.append(cluster.holder(session.run_id).kill().pid)
            cluster.keep(cluster.speech_worker, *WORKERS)
        events = list(cluster.client.follow(session.run_id, timeout_s=180))
    result = session.result()
    assert is_right(events)
    assert lives(events)[: len(killed)] == killed
    assert result.coverage.share == 1.0
    assert not result.coverage.gaps
    assert round(result.coverage.audio_s * 16_000) == len(pcm) // 2
    assert all(one.end <= two.start for one, two in itertools.pairwise(result.words))
    return [word.word for word in result.words]


def session_finals(cluster: Cluster, run_id: str) -> list[str]:
    events = of_type(cluster.client.events(run_id), "stt.final")
    return [word.word for event in events for word in SttFinal.model_validate(event.data).words]
