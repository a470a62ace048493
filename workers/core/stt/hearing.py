"""From the words of a connection to the events that tell of them. Pure.

It remembers only what followers were shown last, so that nothing is told twice and nothing withdrawn stays up.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from api_contracts import stt
from api_contracts.runs import EventData
from api_contracts.stt import SAMPLE_RATE
from workers.core.stt.connection import Connection
from workers.core.stt.finality import (
    STUCK_S,
    final_words,
    is_glued,
    language_of,
    segments_of,
    settled_prefix,
    text_of,
    texts_by_segment,
)
from workers.core.stt.segments import Heard
from workers.core.stt.state import SttState
from workers.core.stt.timeline import Timeline


class Hearing:
    """Tells of one connection after another."""

    def __init__(self) -> None:
        self.rest: list[Heard] = []
        """What the present connection said beyond the last final."""
        self.ripe_at: float | None = None
        """When `listen` is due although nothing was said."""
        self._shown: dict[int, str] = {}
        self._conn: Connection | None = None

    def void(self) -> None:
        """The present connection is gone, and with it what followers were shown."""
        self.rest, self.ripe_at, self._shown = [], None, {}

    def listen(
        self,
        conn: Connection,
        state: SttState,
        timeline: Timeline,
        now: float,
        text_timeout_s: float,
        limit: int | None = None,
    ) -> list[EventData]:
        """Return what there is to tell of a connection that said something, or of words that time made final.

        Words that begin at sample `limit` or later are not made final.
        """
        self._conn = conn
        if conn.segments.flags_words:  # words without a flag are yet to get one
            text_timeout_s = max(text_timeout_s, STUCK_S)
        pending = conn.segments.pending(state.final_upto, state.told)
        count, self.ripe_at = settled_prefix(pending, now, text_timeout_s)
        if limit is not None and any(word.start >= limit for word in pending[:count]):
            count, self.ripe_at = next(at for at, word in enumerate(pending) if word.start >= limit), None
        return self._tell(pending, count, state, timeline)

    def last_words(self, conn: Connection | None, state: SttState, timeline: Timeline) -> list[EventData]:
        """Return what makes everything final that `conn` said (STT-08); without it, what was last said by any, even
        one that is gone.
        """
        self.ripe_at = None
        if self._conn is None or (conn is not None and conn is not self._conn):
            return []
        pending = self._conn.segments.pending(state.final_upto, state.told)
        return self._tell(pending, len(pending), state, timeline)

    def _tell(self, pending: list[Heard], count: int, state: SttState, timeline: Timeline) -> list[EventData]:
        assert self._conn is not None  # noqa: S101 - both callers have one
        number, upto, events = self._conn.number, state.final_upto, list[EventData]()
        if pending and state.speech_start is None:
            events.append(stt.SttStartOfSpeech(start=max(pending[0].start, upto) / SAMPLE_RATE))
        if self._shown and (gone := self._shown.keys() - segments_of(pending)):
            text = " ".join(self._shown[segment] for segment in sorted(gone))
            events.append(stt.SttRetracted(conn=number, segments=sorted(gone), text=text))
        ready, self.rest = pending[:count], pending[count:]
        if ready:
            words = final_words(ready, self.rest[0] if self.rest else None, upto)
            upto = words[-1][1]
            self._conn.segments.settle(ready, upto)
            events += _finals(number, ready, words, state, timeline)
        shown = texts_by_segment(self.rest)
        if shown and (ready or shown != self._shown):
            events.append(_interim(number, self.rest, upto))
        self._shown = shown
        return events


def _finals(
    conn: int, heard: Sequence[Heard], words: Sequence[tuple[stt.SttWord, int]], state: SttState, timeline: Timeline
) -> Iterator[stt.SttFinal]:
    """Yield one final for each segment, so that its text is the provider's, with all marks and spaces."""
    for segment, group in groupby(zip(heard, words, strict=True), key=lambda each: each[0].segment):
        each = list(group)
        said, told = [word for word, _ in each], [word for _, (word, _) in each]
        anchor = state.anchor_for(each[-1][1][1], timeline)
        yield stt.SttFinal(
            conn=conn,
            text=text_of(said),
            start=told[0].start,
            end=told[-1].end,
            segments=[segment],
            words=told,
            language=language_of(said),
            glued=is_glued(said) or None,
            estimated=None if all(word.timed for word in said) else True,
            **anchor.told(),
        )


def _interim(conn: int, heard: Sequence[Heard], upto: int) -> stt.SttInterim:
    return stt.SttInterim(
        conn=conn,
        text=text_of(heard),
        start=max(heard[0].start, upto) / SAMPLE_RATE,
        end=max(heard[-1].end, upto) / SAMPLE_RATE,
        segments=segments_of(heard),
    )
