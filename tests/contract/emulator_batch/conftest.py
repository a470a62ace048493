"""A server for the tests that need no switches."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.emulator_batch.plane import Plane, open_plane


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    """A server with the usual switches, whose clock stands still."""
    async with open_plane() as opened:
        yield opened
