"""Whole files of speech in the simulated world: a provider that takes a while for each."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from tests.sim.outside import BROKEN_OFF
from workers.ports import FileAsked, ProviderFailed

if TYPE_CHECKING:
    from tests.sim.world import World

_SOUND: Final = bytes(range(256)) * 8
HEARD: Final = "All that was said."
ASKED: Final[dict[str, Any]] = {"audio_b64": base64.b64encode(_SOUND).decode(), "filename": "talk.mp3"}


class Typist:
    """`Transcriber`: says what a file says. In a lossy world one in ten answers breaks off."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def transcribe(self, asked: FileAsked, *, credential: str | None, request_id: str) -> bytes:
        """See the port."""
        world = self._world
        if asked.file != _SOUND:
            world.found.append("the file did not arrive as it is")
        await world.clock.sleep_until(world.clock.now() + world.chance.uniform(0.5, 8.0))
        if world.breaks_off():
            raise ProviderFailed(BROKEN_OFF)
        return json.dumps({"text": HEARD}).encode()


class AtOnce(ThreadPoolExecutor):
    """Does what is for a thread at once: a plan that is played again has no other order."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor`."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - whoever awaits it gets it
            future.set_exception(exc)
        return future
