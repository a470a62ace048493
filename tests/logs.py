"""Loggers as new: structlog's proxies keep for ever what they were bound to first, whatever is configured later."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.testing import capture_logs


def loggers_as_new() -> None:
    """Give structlog its defaults back, and have the loggers of our modules bound anew when they are used next."""
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name.startswith(("workers", "api_contracts")):
            for each in vars(module).values():
                if type(each).__name__ == "BoundLoggerLazyProxy":
                    vars(each).pop("bind", None)


@contextmanager
def logged() -> Iterator[list[Any]]:
    """Yield the events that this process logs meanwhile, whichever logging an earlier test set up."""
    loggers_as_new()
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines
    loggers_as_new()
