"""The ways of a connection that need no waiting: in their place among those that do, with each implementation."""

import asyncio

from tests.contract.test_speech_line import FRAME, World, opened, world
from tests.waiting import idle
from workers.ports import SpeechLost

__all__ = ["world"]


async def test_what_need_not_wait_goes_out_in_its_place(world: World) -> None:
    line, far = await opened(world)
    assert line.offer("1")
    await line.send("2")
    assert line.offer(FRAME)
    assert [await far.heard() for _ in range(3)] == ["1", "2", FRAME]
    await line.close()
    assert not line.offer(FRAME)


async def test_who_takes_nothing_is_offered_no_more_than_fits(world: World) -> None:
    line, far = await opened(world)
    await far.stall()
    assert any(not line.offer(FRAME) for _ in range(10_000))
    sending = asyncio.create_task(line.send(FRAME))
    await idle()
    assert not sending.done()
    await line.close()
    await asyncio.wait([sending])


async def test_what_comes_is_handed_over_in_order_with_what_is_received(world: World) -> None:
    line, far = await opened(world)
    said, heard = [str(number) for number in range(300)], list[bytes | str]()
    telling = asyncio.create_task(far.say(*said[:200], b"200", *said[201:]))
    heard.append(await line.receive())
    line.hand_to(heard.append)

    async def receive() -> None:
        while True:
            heard.append(await line.receive())

    receiving = asyncio.create_task(receive())
    await telling
    await far.drop(1011)
    await asyncio.wait([receiving])
    assert isinstance(receiving.exception(), SpeechLost)
    assert heard == [*said[:200], b"200", *said[201:]]
    await line.close()
