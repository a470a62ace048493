"""The command `fireworks-workers`. Owns what a person sees; knows the service only by its client and its processes."""

import sys


def main() -> None:
    """Run the command line; a misconfiguration is one line and exit code 1, never a stack trace."""
    from workers.cli.commands import cli
    from workers.cli.embedded import EmbeddedValkeyError
    from workers.errors import Misconfigured
    from workers.settings import check_environment

    try:
        if "--help" not in sys.argv:
            check_environment()
        cli()
    except (Misconfigured, EmbeddedValkeyError) as exc:
        sys.exit(str(exc))
