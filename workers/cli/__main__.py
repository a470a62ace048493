"""`python -m workers.cli`: the command `fireworks-workers`, for processes that are started by their interpreter."""

from workers.cli import main

main()
