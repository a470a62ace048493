"""`emulator`: the provider's stand-in as a process; what it cannot start with is one line per fault."""

from pathlib import Path

from pydantic import ValidationError

from workers.emulator import EmulatorConfig, load_scene, run
from workers.errors import Misconfigured


def emulate(host: str, port: int, pace: float, seed: int, scene: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C; raise Misconfigured."""
    try:
        config = EmulatorConfig(pace=pace, seed=seed)
    except ValidationError as exc:
        raise Misconfigured("\n".join(f"--{error['loc'][0]}: {error['msg']}" for error in exc.errors())) from None
    try:
        run(config.model_copy(update={"scene": load_scene(scene)}) if scene else config, host, port)
    except ValidationError as exc:
        faults = [f"--scene: {scene}: {'.'.join(map(str, e['loc'])) or 'scene'}: {e['msg']}" for e in exc.errors()]
        raise Misconfigured("\n".join(faults)) from None
    except OSError as exc:
        what = f"--scene: {exc.filename}" if exc.filename else f"--port: {host}:{port}"
        raise Misconfigured(f"{what}: {exc.strerror}") from None
