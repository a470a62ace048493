"""The file that names MCP servers: what it may say, and one line for each fault."""

from pathlib import Path

import pytest

from workers.adapters.tools.mcp_config import read_servers
from workers.errors import Misconfigured

pytestmark = pytest.mark.requirement("TOOL-18", "OPS-17")


def written(folder: Path, text: str) -> Path:
    path = folder / "mcp.toml"
    path.write_text(text)
    return path


def test_both_kinds_of_servers_are_read_and_without_a_file_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t")
    text = """
    [servers.docs]
    command = ["docs-server", "--read-only"]
    tools = ["search"]
    effect = "pure"
    [servers.shop]
    url = "http://shop:8000/mcp"
    headers = { Authorization = "SHOP_TOKEN" }
    effects = { buy = "keyed" }
    """
    found = read_servers(written(tmp_path, text))
    assert (found["docs"].effect, found["docs"].tools, found["docs"].timeout_s) == ("pure", ["search"], 60.0)
    assert (found["shop"].effect, found["shop"].effects) == ("at_most_once", {"buy": "keyed"})
    assert read_servers(None) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[servers.a]", "needs command (stdio) or url (streamable HTTP), one of the two"),
        ('[servers.a]\ncommand = ["x"]\nurl = "http://x"', "one of the two"),
        ('[servers.a]\nurl = "ftp://x"', "servers.a.url"),
        ('[servers."a b"]\nurl = "http://x"', "servers.a b"),
        ("[servers.a]\ncommand = []", "servers.a.command"),
        ('[servers.a]\ncommand = ["x"]\nheaders = { A = "B" }', "headers is for url only"),
        ('[servers.a]\nurl = "http://x"\ninherit = ["PATH"]', "inherit is for command only"),
        ('[servers.a]\ncommand = ["x"]\ninherit = ["NO_SUCH_TOKEN"]', "the variable NO_SUCH_TOKEN is not set here"),
        ('[servers.a]\ncommand = ["x"]\neffect = "harmless"', "servers.a.effect"),
        ('[servers.a]\ncommand = ["x"]\ntimeout_s = 0', "servers.a.timeout_s"),
        ('[server.a]\ncommand = ["x"]', "servers: Field required"),
        ("[servers", "is no TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_servers(written(tmp_path, text))
    assert says in str(caught.value)
    assert all(line.startswith("FW_MCP_FILE: ") for line in str(caught.value).splitlines())


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FW_MCP_FILE: cannot read"):
        read_servers(tmp_path / "none.toml")
