"""`up`: the Procfile's processes under one supervisor, with embedded parts for what is not given."""

import os
import secrets
from pathlib import Path

from rich.console import Console

from workers.cli.prefixed import PrefixedPrinter
from workers.cli.procfile import Command, ProcfileError, parse_procfile
from workers.cli.stack import Stack, free_port, is_free, stack
from workers.cli.supervisor import Supervisor
from workers.errors import Misconfigured
from workers.settings import state_folder

_EMULATOR = "emulator"
FLOWER_PORT = 5555


def bring_up(procfile: Path, grace_s: float) -> int:
    """Run until SIGTERM or Ctrl-C; return the exit code. With FIREWORKS_API_KEY set the provider is the real one."""
    console = Console(stderr=True, highlight=False)
    emulate = not os.environ.get("FIREWORKS_API_KEY")
    with stack(state_folder(), emulate=emulate) as parts:
        flower = with_flower(parts.env)
        commands = [c for c in _commands(procfile, parts.env) if parts.emulated or c.name != _EMULATOR]
        console.print(f"{_banner(parts, commands)}\nFlower: {flower}", soft_wrap=True)
        width = max(len(command.name) for command in commands)
        with Supervisor(PrefixedPrinter(width=max(width, 10)), grace_s=grace_s) as supervisor:
            for command in commands:
                supervisor.start(command.name, command.argv, env=parts.env)
            return supervisor.run_forever()


def with_flower(env: dict[str, str]) -> str:
    """Give Flower a password and a port where none is given; return its URL, with a password that we made."""
    host, made = env.get("FW_FLOWER_HOST") or "127.0.0.1", ""
    if not env.get("FW_FLOWER_AUTH"):
        env["FW_FLOWER_AUTH"] = f"flower:{secrets.token_urlsafe(9)}"
        made = f"{env['FW_FLOWER_AUTH']}@"
    if not env.get("FW_FLOWER_PORT"):
        env["FW_FLOWER_PORT"] = str(FLOWER_PORT if is_free(FLOWER_PORT) else free_port())
    return f"http://{made}{host}:{env['FW_FLOWER_PORT']}"


def _commands(procfile: Path, env: dict[str, str]) -> list[Command]:
    # Without the stand-in its line is not started, but it must still be readable.
    known = {"FW_EMULATOR_PORT": "0"} | env
    try:
        return parse_procfile(procfile.read_text(encoding="utf-8"), known)
    except OSError as exc:
        raise Misconfigured(f"cannot read {procfile}: {exc.strerror}; name another with --procfile") from exc
    except ProcfileError as exc:
        raise Misconfigured(f"{procfile}: {exc}") from exc


def _banner(parts: Stack, commands: list[Command]) -> str:
    embedded = ", ".join(parts.own) or "nothing"
    provider = "the emulator" if parts.emulated else "the real provider (FIREWORKS_API_KEY is set)"
    names = ", ".join(command.name for command in commands)
    return f"starting {names}\nembedded: {embedded}; provider: {provider}; state: {parts.env['FW_STATE_DIR']}"
