"""The MCP servers whose tools a worker offers: a TOML file (`FW_MCP_FILE`), checked whole at the start.

    [servers.docs]
    command = ["docs-server", "--read-only"]    # stdio: the worker starts it, and starts it again when it dies
    inherit = ["DOCS_TOKEN"]                    # variables of the worker that it may see, beside PATH, HOME ...
    effect = "pure"                             # of all its tools; without it at_most_once
    tools = ["search", "read"]                  # offer no others

    [servers.shop]
    url = "http://shop.internal:8000/mcp"       # streamable HTTP
    headers = { Authorization = "SHOP_TOKEN" }  # header = the variable of the worker that holds its value
    effects = { price = "pure", buy = "keyed" } # of single tools; a keyed call has its key in _meta, see KEY
    timeout_s = 120                             # of each call; 60 without it

A request names a tool as `<server>_<tool>`, such as `docs_search`. What a server says of its own tools (`readOnlyHint`)
is not believed: the effect is the operator's to say.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from api_contracts.chat import Effect
from workers.errors import Misconfigured

KEY: Final = "fireworks-workers/key"
"""Where in a call's `_meta` its key stands: the same for every repeat of one call."""

ServerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class McpServer(BaseModel):
    """One `[servers.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: Annotated[list[str], Field(min_length=1)] | None = None
    inherit: list[Variable] = Field(default_factory=list)
    url: Annotated[str, StringConstraints(pattern=r"^https?://")] | None = None
    headers: dict[str, Variable] = Field(default_factory=dict)
    effect: Effect = "at_most_once"
    effects: dict[str, Effect] = Field(default_factory=dict)
    tools: list[str] | None = None
    timeout_s: float = Field(default=60.0, gt=0, le=86_400)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("needs command (stdio) or url (streamable HTTP), one of the two")
        if self.headers and self.command:
            raise ValueError("headers is for url only")
        if self.inherit and self.url:
            raise ValueError("inherit is for command only")
        if missing := [name for name in (*self.inherit, *self.headers.values()) if name not in os.environ]:
            raise ValueError(f"the variable {', '.join(missing)} is not set here")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    servers: dict[ServerName, McpServer]


def read_servers(path: Path | None) -> dict[str, McpServer]:
    """Return the file's servers by name; none without a file. Raise Misconfigured with one line per fault."""
    if path is None:
        return {}
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).servers
    except OSError as exc:
        raise Misconfigured(f"FW_MCP_FILE: cannot read {path}: {exc.strerror}") from None
    except ValidationError as exc:
        faults = (f"{'.'.join(str(step) for step in e['loc'])}: {e['msg']}" for e in exc.errors(include_input=False))
        raise Misconfigured("\n".join(f"FW_MCP_FILE: {path}: {fault}" for fault in faults)) from None
    except ValueError as exc:  # no TOML, or no UTF-8
        raise Misconfigured(f"FW_MCP_FILE: {path} is no TOML: {exc}") from None
