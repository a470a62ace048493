"""What a finished run leaves to Python's collector: objects that hold each other.

The collector comes after so many allocations, in a quiet process after minutes; until then they are there, with
everything that they hold. What holds no other goes at once.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType
from typing import Any, Final

_OURS: Final = ("workers.", "api_contracts.")


@contextmanager
def collector_off() -> Iterator[Callable[[], list[str]]]:
    """Yield what tells the objects of ours, by name, that only the collector would free since the block began."""
    gc.disable()
    gc.freeze()  # what was there before is not looked at
    try:
        yield _left
    finally:
        gc.unfreeze()
        gc.enable()


def _left() -> list[str]:
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return sorted(name for each in gc.garbage if (name := _name(each)).startswith(_OURS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def _name(each: Any) -> str:
    """Name a frame or a function by where it stands, anything else by its type: to ask a weak proxy is an error."""
    kind = type(each)
    if kind is FrameType:
        return f"{each.f_globals.get('__name__')}.{each.f_code.co_name}"
    named = each if kind is FunctionType else kind
    return f"{named.__module__}.{named.__qualname__}"
