"""A headless Chromium, and what the tests do in its tabs, over the DevTools protocol."""

import itertools
import json
import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.cluster import Cluster
from tests.waiting import eventually

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream", "--window-size=900,400",
)  # fmt: skip
LONGEST_MS = 60_000
"""A hang's bound, and no statement about speed."""


def installed() -> str:
    """Return the program; skip where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("NOT PROVEN HERE: no chromium on this machine, so the page of examples/browser is not opened")
    return found


@dataclass
class BrowserTab:
    """A tab. What is asked of it is awaited by the page, so nobody has to guess how long it takes."""

    line: ClientConnection
    session: str
    target: str
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._ids)
        asked = {"id": number, "method": method, "params": params}
        self.line.send(json.dumps(asked | ({"sessionId": self.session} if self.session else {})))
        while True:
            said = json.loads(self.line.recv(timeout=120))
            if said.get("id") == number and said.get("sessionId", "") == self.session:
                assert "error" not in said, said
                return dict(said["result"])

    def run(self, script: str) -> Any:
        """Return the value of an expression, of a promise its outcome."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        said = self.ask("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, condition: str) -> None:
        """Return when the page has changed so that this holds."""
        self.run(f"""new Promise((done, fail) => {{
            setTimeout(() => fail(new Error(document.body.innerText)), {LONGEST_MS});
            const look = () => ({condition}) && (watch.disconnect(), done());
            const watch = new MutationObserver(look);
            watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
            look();
        }})""")

    def picture(self, path: Path) -> None:
        path.write_bytes(b64decode(self.ask("Page.captureScreenshot")["data"]))


@dataclass
class Browser:
    """The program, and the line to it."""

    tab: BrowserTab

    def open(self, url: str) -> BrowserTab:
        """Open a tab; return when the page is there. It may hear the microphone."""
        self.may_hear(url, "granted")
        target = self.tab.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.tab.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        opened = BrowserTab(self.tab.line, session, target)
        opened.ask("Page.enable")
        opened.ask("Page.navigate", url=url)
        while json.loads(opened.line.recv(timeout=120)).get("method") != "Page.loadEventFired":
            pass
        return opened

    @property
    def version(self) -> str:
        return str(self.tab.ask("Browser.getVersion")["product"].partition("/")[2])

    def may_hear(self, origin: str, answer: str) -> None:
        """Have the user say `granted` or `denied`."""
        self.tab.ask("Browser.setPermission", permission={"name": "microphone"}, setting=answer, origin=origin)

    def close(self, tab: BrowserTab) -> None:
        self.tab.ask("Target.closeTarget", targetId=tab.target)


@contextmanager
def chromium(cluster: Cluster, folder: Path, *options: str) -> Iterator[Browser]:
    """Start the browser."""
    profile = folder / "profile"
    process = cluster.start("chromium", installed(), *QUIET, f"--user-data-dir={profile}", *options)
    url = eventually(
        lambda: process.says("DevTools listening on ") and process.log().split("listening on ")[1].split()[0]
    )
    with connect(url, max_size=None, compression=None, proxy=None) as line:
        yield Browser(BrowserTab(line, "", ""))
        line.send(json.dumps({"id": 0, "method": "Browser.close"}))
        process.popen.wait(timeout=60)
