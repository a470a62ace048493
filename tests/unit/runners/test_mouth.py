"""How an answer is published while it streams (`runners.mouth`)."""

import pytest

from tests.waiting import idle
from workers.adapters.memory.clock import ManualClock
from workers.runners.chime import INTERVAL_S, Chime
from workers.runners.mouth import Mouth

pytestmark = pytest.mark.requirement("CHAT-02")


class Speaker:
    """A mouth at the beginning of an interval."""

    def __init__(self) -> None:
        self.clock = ManualClock(100 * INTERVAL_S)
        self.said: list[tuple[str, str]] = []
        self.mouth = Mouth(Chime(self.clock), self.clock, self.said.append)

    def say(self, *pieces: tuple[str, str]) -> None:
        self.mouth.say(pieces, self.clock.now())

    async def passes(self, seconds: float) -> list[tuple[str, str]]:
        await idle()
        self.clock.advance(seconds)
        await idle()
        return self.said


async def test_before_the_first_word_nothing_may_lie_unread() -> None:
    assert Speaker().mouth.lull() is None


async def test_after_a_word_what_comes_may_lie_unread_until_the_next_moment() -> None:
    speaker = Speaker()
    speaker.say(("a", ""))
    lull = speaker.mouth.lull()
    assert lull is not None
    await speaker.passes(INTERVAL_S * 0.9)
    assert not lull.done()
    await speaker.passes(INTERVAL_S * 0.2)
    assert lull.done()
    speaker.say(("b", ""), ("c", ""))
    assert speaker.said == [("a", ""), ("bc", "")]


async def test_what_is_held_is_said_at_the_next_moment_where_no_reader_rests() -> None:
    speaker = Speaker()
    speaker.say(("", "hm"))
    speaker.say(("", "m"))
    assert speaker.mouth.lull() is None
    assert await speaker.passes(INTERVAL_S * 1.1) == [("", "hm"), ("", "m")]


async def test_one_that_is_closed_says_nothing_more_by_itself() -> None:
    speaker = Speaker()
    speaker.say(("", "hm"))
    speaker.say(("", "m"))
    speaker.mouth.close()
    assert await speaker.passes(INTERVAL_S * 1.1) == [("", "hm")]
    assert speaker.mouth.rest() == [("", "m")]
