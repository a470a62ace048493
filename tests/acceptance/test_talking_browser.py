"""examples/browser in a headless Chromium whose microphone is a file. Part of `make clients`: it speaks in real time.

`FW_PAGE_PNG=docs/page.png` keeps the picture, for the README.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_contracts.stt import SttResult
from tests.acceptance.chromium import Browser, BrowserTab, chromium, installed
from tests.acceptance.cluster import Cluster
from tests.acceptance.talking_page import Gateway, start_gateway
from tests.acceptance.test_speech import finished, some_words
from tests.clients.record import Record
from tests.faults.proxy import FaultProxy
from workers.emulator.speech import encode, silence, write_wav

TRIES = 3
WORDS = some_words(12)
SHOWN = "document.getElementById('words').textContent.split(/\\s+/).filter(Boolean)"
STATE = "document.getElementById('state').textContent"
SPEAK = "document.getElementById('speak').click()"


@pytest.fixture(scope="module")
def browser(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone says the words after a second, to each tab that asks for it."""
    if not os.environ.get("FW_TEST_CLIENTS"):
        pytest.skip("examples/browser in a browser is for `make clients` (without one: test_talking_page.py)")
    installed()
    folder = tmp_path_factory.mktemp("browser")
    said = folder / "said.wav"
    said.write_bytes(write_wav(silence(1) + encode(WORDS[:6]) + silence(1.5) + encode(WORDS[6:]) + silence(60)))
    with chromium(cluster, folder, f"--use-file-for-fake-audio-capture={said}%noloop") as started:
        yield started


@pytest.fixture(scope="module")
def gateway(browser: Browser, cluster: Cluster) -> Iterator[Gateway]:
    speech = cluster.speech_worker("stt")
    started = start_gateway(cluster)
    speech.ready()
    yield started
    started.process.stop()
    speech.stop()


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[FaultProxy]:
    """What lies between browser and gateway."""
    with FaultProxy(gateway.url) as between:
        yield between


def noted(browser: Browser, *passed: str) -> None:
    Record.known().note("chromium", browser.version, "examples/browser", *passed)


def spoken(browser: Browser, cluster: Cluster, url: str, meanwhile: Callable[[BrowserTab], None]) -> SttResult:
    """Open a tab, have it hear the words, close it; return what its session came to.

    The page shows what the journal says, each time. A machine that is busy makes Chromium's own sound stumble, and
    `tones` hears that: then, and only then, another tab is asked.
    """
    for _ in range(TRIES):
        page = browser.open(url)
        page.run("WebSocket = class extends WebSocket { constructor(url) { super(url); globalThis.line = this; } }")
        page.run(SPEAK)
        meanwhile(page)
        page.until(f"{SHOWN}.length >= {len(WORDS)} && !document.querySelector('.interim')")
        shown, run_id = page.run(SHOWN), page.run("new URL(line.url).searchParams.get('run')")
        browser.close(page)
        _, result = finished(cluster, run_id)
        assert shown == result.text.split()
        if shown == WORDS:
            return result
        assert "<damaged>" in shown
    raise AssertionError(f"none of {TRIES} tabs heard {WORDS}")


@pytest.mark.requirement("OPS-18")
def test_what_is_spoken_stands_in_the_page_once_and_a_tab_that_is_closed_ends_its_session(
    browser: Browser, gateway: Gateway, cluster: Cluster
) -> None:
    result = spoken(browser, cluster, gateway.url, lambda page: page.until("document.querySelector('.interim')"))
    assert (result.status, result.ended_by, result.coverage.share) == ("completed", "end", 1.0)
    noted(browser, "every word final once", "a closed tab")


@pytest.mark.requirement("OPS-18")
def test_a_line_that_breaks_loses_no_word(browser: Browser, proxy: FaultProxy, cluster: Cluster) -> None:
    def hang_up(page: BrowserTab) -> None:
        page.until(f"{SHOWN}.length > 3")
        proxy.reset()
        page.until(f"{STATE}.startsWith('The line is broken.')")
        page.until(f"{STATE} == 'Listening.'")

    spoken(browser, cluster, proxy.url, hang_up)
    noted(browser, "a broken line")


@pytest.mark.requirement("OPS-18")
def test_stop_ends_the_session_in_the_page(browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    page = browser.open(gateway.url)
    page.run(SPEAK)
    page.until(
        "document.querySelector('.final') && document.querySelector('.interim')?.textContent.split(' ').length > 3"
    )
    page.picture(Path(os.environ.get("FW_PAGE_PNG") or tmp_path / "page.png"))
    page.run(SPEAK)
    page.until(f"{STATE} == 'The session is over.' && !document.querySelector('.interim')")
    assert page.run(SHOWN)
    browser.close(page)


@pytest.mark.requirement("OPS-18")
def test_a_microphone_that_is_refused_is_said_and_so_is_all_else_as_text(browser: Browser, gateway: Gateway) -> None:
    page = browser.open(gateway.url)
    browser.may_hear(gateway.url, "denied")
    page.run(SPEAK)
    page.until(f"{STATE}.startsWith('The microphone was refused.')")
    hostile = "<img src=x onerror=\\\"document.title = 'hacked'\\\">"
    for kind, data in (
        ("stt.interim", f'{{ text: "{hostile}" }}'),
        ("stt.retracted", "{}"),
        ("stt.final", f'{{ text: "{hostile}" }}'),
        ("stt.gap", "{ start: 1, end: 2.5 }"),
        ("stt.trouble", f'{{ kind: "error", message: "{hostile}" }}'),
        ("stt.lag", "{ behind_s: 310, full: true }"),
    ):
        page.run(f"import('/page/page.js').then((page) => page.show('{kind}', {data}))")
    assert page.run("document.querySelectorAll('img, .interim').length") == 0
    assert page.run("document.getElementById('words').textContent").count("onerror") == 1
    assert "[1.0 to 2.5 s: not heard]" in page.run("document.body.innerText")
    assert page.run(STATE) == "The service is 310 s behind."
    noted(browser, "a refused microphone", "text that is no markup")
