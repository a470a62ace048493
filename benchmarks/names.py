"""What the load and the worker of a measure call the same."""

from typing import Final

EMPTY: Final = "bench/empty"
"""The model of a chat that is an empty run (`benchmarks.tasks`)."""

NOOP: Final = "bench.noop"

TOOL: Final = "bench.look"
BACK: Final = "bench.back"
BACK_KEY: Final = "bench:back"
"""A tool of another service; the task that the bare measure links to it; the list where that one says when it ran."""
