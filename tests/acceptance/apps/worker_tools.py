"""Tools inside the worker (`FW_TOOLS`). Each marks that it took effect, then waits where its name says so."""

import asyncio

from tests.acceptance.apps.board import Board
from workers.adapters.tools import tool


@tool(effect="pure")
def lookup(key: str) -> str:
    """Look something up, at once."""
    Board().mark(key, "lookup")
    return f"{key} was looked up"


@tool(effect="pure")
async def wait_pure(key: str) -> str:
    """Look something up, once the gate is open."""
    await asyncio.to_thread(_wait, key)
    return f"{key} was waited for"


@tool(effect="pure", wait=False)
async def linger(key: str) -> str:
    """Look something up in the background, until somebody stops it."""
    board = Board()
    board.mark(key, "begun")
    try:
        await asyncio.Event().wait()
    finally:
        board.mark(key, "stopped")
    return f"{key} has lingered"


@tool(effect="pure")
async def hog(key: str) -> str:
    """Keep the whole loop waiting until the gate is open: what no tool should do."""
    _wait(key)
    return f"{key} kept everybody waiting"


@tool(effect="at_most_once")
async def wait_once(key: str) -> str:
    """Do something that must not be repeated, then wait for the gate."""
    await asyncio.to_thread(_wait, key)
    return f"{key} was done"


@tool(effect="at_most_once", approval=True)
def wipe(key: str) -> str:
    """Do what somebody has to approve first."""
    Board().mark(key, "wiped")
    return f"{key} was wiped"


@tool(effect="pure")
def raises(key: str) -> str:
    """Fail with a text that is the operator's business alone."""
    Board().mark(key, "raises")
    raise LookupError(f"no row {key} in table vaults")


def _wait(key: str) -> None:
    board = Board()
    board.mark(key, "begun")
    board.pass_gate(key)
