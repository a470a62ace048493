"""`process`: become one line of the Procfile. No supervisor and no shell stands between the signals and the process."""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import workers
from workers.cli.procfile import ProcfileError, read_lines, with_own_scripts
from workers.errors import Misconfigured

UNKNOWN_NAME: Final = 2

_CHECKOUT: Final = Path(workers.__file__).parent.parent / "Procfile"
_INSTALLED: Final = Path(sys.prefix) / "share" / "fireworks-workers" / "Procfile"


def shipped_procfile() -> Path:
    """Return the Procfile of this package: at the top of a checkout, in the prefix's `share` when it is installed."""
    return _CHECKOUT if _CHECKOUT.exists() else _INSTALLED


def become(name: str, procfile: Path | None) -> int:
    """Replace this process; return only for a name that is not in the file. Raise `Misconfigured`."""
    path = procfile or shipped_procfile()
    try:
        lines = read_lines(path.read_text(encoding="utf-8"))
        if name not in lines:
            sys.stderr.write(f"{path} has no process {name!r}; it has {', '.join(lines)}\n")
            return UNKNOWN_NAME
        _exec(lines[name].expanded(os.environ))
    except OSError as exc:
        raise Misconfigured(f"cannot read {path}: {exc.strerror}; name another with --procfile") from exc
    except ProcfileError as exc:
        raise Misconfigured(f"{path}: {exc}") from exc


def _exec(argv: tuple[str, ...]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        # The direct heir of our pid: a container's SIGTERM reaches the worker, which drains.
        os.execvpe(argv[0], argv, with_own_scripts(os.environ))  # noqa: S606 - the operator's own command, no shell
    except OSError as exc:
        raise Misconfigured(f"cannot run {argv[0]}: {exc.strerror}; is the extra `worker` installed?") from exc
