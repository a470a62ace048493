"""The command `fireworks-workers`. Owns what a person sees; knows the service only by its client and its processes."""

import sys


def main() -> None:
    """Run the command line; what goes wrong is one line and an exit code (`exits`), never a stack trace."""
    from workers.cli.commands import cli
    from workers.cli.embedded import EmbeddedValkeyError
    from workers.cli.exits import Stop
    from workers.errors import Misconfigured
    from workers.settings import check_environment

    try:
        if "--help" not in sys.argv:
            check_environment()
        cli()
    except Stop as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - the command's output
        sys.exit(exc.code)
    except (Misconfigured, EmbeddedValkeyError) as exc:
        sys.exit(str(exc))
