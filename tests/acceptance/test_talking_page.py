"""examples/browser: a page with a microphone, played by a websocket client (in a browser: test_talking_browser.py).

The words are random `tones`, as in test_speech.py: a sample that is lost or said twice changes them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api_contracts import keys
from api_contracts.stt import SttFinal, SttResult
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.journal import is_right
from tests.acceptance.talking_page import Gateway, Tab, launch_gateway, start_gateway
from tests.acceptance.test_speech import finished, some_words, sound_of


@pytest.fixture(scope="module")
def gateway(cluster: Cluster) -> Iterator[Gateway]:
    """A gateway, and a worker for what it hears."""
    speech = cluster.speech_worker("stt")
    started = start_gateway(cluster)
    speech.ready()
    yield started
    if started.process.lives:
        started.process.stop()
    speech.stop()


@pytest.fixture
def new_tab(gateway: Gateway) -> Iterator[Callable[..., Tab]]:
    """What opens a tab."""
    with ExitStack() as open_tabs:
        yield lambda *run_id: open_tabs.enter_context(Tab(gateway, *run_id))


def words_of(told: Sequence[dict[str, Any]]) -> list[str]:
    finals = (SttFinal.model_validate(each["data"]) for each in told if each["type"] == "stt.final")
    return [word.word for final in finals for word in final.words]


def ended(cluster: Cluster, tab: Tab) -> SttResult:
    _, result = finished(cluster, tab.run_id)
    return result


@pytest.mark.requirement("OPS-18")
def test_words_come_while_one_speaks_and_a_line_that_broke_is_taken_up_where_it_was(
    cluster: Cluster, new_tab: Callable[..., Tab]
) -> None:
    words = some_words(24)
    pcm = sound_of(words)
    half = len(pcm) // 2 // 3200 * 3200
    tab = new_tab().join()
    tab.say(pcm[:half])
    tab.hear("stt.interim")
    tab.hear_taken(half)
    tab.lose()
    tab.join()
    assert tab.at == half, "the gateway knows what it has"
    tab.say(pcm[half:])
    tab.line.send("flush")
    tab.line.send("end")
    assert [said["type"] for said in tab.rest()][-1] == "run.completed"
    assert tab.line.close_code == 1000
    events = cluster.client.events(tab.run_id)
    assert is_right(events)
    assert [(said["seq"], said["type"]) for said in tab.told] == [(event.seq, event.type) for event in events]
    assert words_of(tab.told) == words
    assert ended(cluster, tab).coverage.share == 1.0


@pytest.mark.requirement("OPS-18")
def test_a_tab_that_is_closed_ends_its_session_and_no_other(cluster: Cluster, new_tab: Callable[..., Tab]) -> None:
    said = {0: some_words(6), 1: some_words(6)}
    closed, open_still = (new_tab().join() for _ in said)
    for number, tab in enumerate((closed, open_still)):
        tab.say(sound_of(said[number]))
    closed.leave()
    result = ended(cluster, closed)
    assert (result.status, result.ended_by, result.text.split()) == ("completed", "end", said[0])
    open_still.say(sound_of(["maple"]))
    open_still.line.send("end")
    open_still.hear("run.completed")
    assert words_of(open_still.told) == [*said[1], "maple"]


@pytest.mark.requirement("OPS-18")
def test_a_stream_that_is_full_holds_the_page_and_one_that_goes_too_far_is_sent_away(
    cluster: Cluster, new_tab: Callable[..., Tab]
) -> None:
    """Full is what the session's worker says in the lease (hold.lua)."""
    tab, words = new_tab().join(), some_words(6)
    lease = keys.lease(tab.run_id)
    tab.hear("stt.connected")
    cluster.redis.hset(lease, "held", str(cluster.redis.hget(lease, "epoch")))
    pcm = sound_of(words)
    tab.say(pcm)
    tab.hear("held")
    assert tab.taken == 0
    cluster.redis.hdel(lease, "held")
    tab.hear_taken(len(pcm))
    tab.line.send("end")
    tab.hear("run.completed")
    assert words_of(tab.told) == words
    greedy = new_tab().join()
    lease = keys.lease(greedy.run_id)
    greedy.hear("stt.connected")
    cluster.redis.hset(lease, "held", str(cluster.redis.hget(lease, "epoch")))
    with suppress(ConnectionClosed):
        greedy.say(bytes(8 * 1024 * 1024))
    assert "taken" not in [said["type"] for said in greedy.rest()]
    assert greedy.line.close_code == 1008
    cluster.redis.hdel(lease, "held")
    greedy.join().leave()
    assert ended(cluster, greedy).status == "completed"


@pytest.mark.requirement("OPS-18")
def test_neither_another_sites_page_nor_another_kind_of_run_gets_a_line(
    cluster: Cluster, gateway: Gateway, new_tab: Callable[..., Tab], name: str
) -> None:
    cluster.client.chat.complete(say("short"), run_id=name, timeout_s=60)
    for tab, headers, status in (
        (new_tab(), {"Origin": "https://elsewhere.example"}, 403),
        (new_tab(name), {}, 400),
        (new_tab("no id!"), {}, 400),
    ):
        with pytest.raises(InvalidStatus) as refused:
            tab.join(**headers)
        assert refused.value.response.status_code == status
    new_tab().join(Origin=gateway.url).leave()


@pytest.mark.requirement("OPS-18")
def test_a_gateway_that_stops_ends_what_is_said_and_the_next_one_tells_the_rest(
    cluster: Cluster, gateway: Gateway, new_tab: Callable[..., Tab]
) -> None:
    """The last test here: it stops the gateway."""
    words = some_words(6)
    successor = launch_gateway(cluster)
    tab = new_tab().join()
    tab.say(sound_of(words))
    tab.hear("run.queued")
    lost = new_tab().join()
    lost.lose()
    assert gateway.process.stop(within=20) == 0
    for _ in tab.rest():
        pass
    assert tab.line.close_code == 1001
    assert [ended(cluster, each).ended_by for each in (tab, lost)] == ["end", "end"]
    successor.process.ready("Running on")
    tab.gateway = successor
    tab.join()
    assert [said["type"] for said in tab.rest()][-1] == "run.completed"
    assert words_of(tab.told) == words
    assert successor.process.stop() == 0
    assert "Traceback" not in gateway.process.log() + successor.process.log()
