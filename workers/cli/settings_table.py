"""docs/settings.md, made from the settings objects: `make docs` writes it, a test holds it to them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from api_contracts.client.settings import ClientSettings
from workers.reading import allowed, variable_of
from workers.settings import OF_COMMANDS, Settings

_HEAD: Final = """\
# Settings

Made by `make docs` from [workers/settings.py](../workers/settings.py) and
[api_contracts/client/settings.py](../api_contracts/client/settings.py); change it there.

Every setting is an environment variable, read once at start. Names ending in `_S` are seconds. An empty value counts
as not set. A process whose settings are wrong does not start: it writes one line for each fault to standard error and
exits with 1. A variable that begins with `FW_` and is not in these tables is such a fault, so a typo is not a setting
without effect. `FW_TEST_...` and what Kubernetes sets for its services (`FW_..._SERVICE_HOST`, `FW_..._PORT_...`) are
left alone.
"""
_OWN_WORDS: Final = {
    "FW_CHAT_MODEL": "Model of the commands `chat`, `cite` and `batch submit`.",
    "FW_EMULATOR_HOST": "Address of the Procfile's `emulator`, by default 127.0.0.1; 0.0.0.0 in containers.",
    "FW_EMULATOR_PORT": "Port of the Procfile's `emulator`; `up` chooses one.",
}


def page() -> str:
    """Return the page."""
    service = [name for name in Settings.model_fields if variable_of(Settings, name).startswith("FW_")]
    provider = [name for name in Settings.model_fields if name not in service]
    shared = {variable_of(Settings, name) for name in service}
    client = list(ClientSettings.model_fields)
    own = [name for name in client if variable_of(ClientSettings, name) not in shared]
    same = ", ".join(f"`{variable_of(ClientSettings, name)}`" for name in client if name not in own)
    return "\n".join(
        [
            _HEAD,
            *("## The service", "", *_table(Settings, service), ""),
            *("## The provider", "", *_table(Settings, provider), ""),
            *("## The client", "", f"What a producer's process reads: {same}, as above, and:", ""),
            *(*_table(ClientSettings, own), ""),
            *("## Commands", "", "| variable | meaning |", "|---|---|"),
            *(f"| `{name}` | {_OWN_WORDS[name]} |" for name in sorted(OF_COMMANDS)),
            "",
        ]
    )


def _table(cls: type[BaseSettings], names: list[str]) -> Iterator[str]:
    yield "| variable | meaning | default | takes |"
    yield "|---|---|---|---|"
    for name in names:
        field = cls.model_fields[name]
        yield f"| `{variable_of(cls, name)}` | {_meaning(field)} | {_default(field)} | {_takes(field)} |"


def _meaning(field: FieldInfo) -> str:
    said = " ".join((field.description or "").split())
    return re.sub(r"^`FIREWORKS_\w+`: (.)", lambda found: found[1].upper(), said).replace("|", r"\|")


def _default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "must be set"
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    if value in (None, "", {}) or (value == 0 and "default:" in (field.description or "")):
        return ""  # the meaning says what then holds
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"


def _takes(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(field.annotation))
    if "dict" in str(field.annotation):
        return "a JSON object"
    return allowed(field) or "text"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
