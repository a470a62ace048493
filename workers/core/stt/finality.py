"""Which words are final, and what is told of them. Pure.

Finality is per word (STT-07): what is final leaves from the front, word by word, so that finals are in order of time
and never change; a later word neither holds back an earlier one nor makes it final. One exception keeps a session
moving: a word that has stood unchanged for `STUCK_S` is taken as final where a final word follows, or one so much
later that the provider cannot look at both at once.
"""

from collections.abc import Sequence
from typing import Final

from api_contracts.stt import SAMPLE_RATE, SttWord
from workers.core.stt.segments import Heard

STUCK_S: Final = 30.0
"""The provider's window, by all signs (WIRE 2.8): a word older than this is not looked at again."""


def settled_prefix(pending: Sequence[Heard], now: float, text_timeout_s: float) -> tuple[int, float | None]:
    """Return how many words from the front are final, and when to ask again if nothing is said until then.

    `text_timeout_s` counts for words of which the provider does not say whether they are final: so long nothing around
    them has changed.
    """
    last_final = max((place for place, word in enumerate(pending) if word.said.final), default=-1)
    for place, word in enumerate(pending):
        if word.said.final:
            continue
        if not word.flagged:
            ripe_at = min(word.calm_since + text_timeout_s, word.since + STUCK_S)
        elif place < last_final or pending[-1].start - word.end >= STUCK_S * SAMPLE_RATE:
            ripe_at = word.since + STUCK_S
        else:
            return place, None
        if now < ripe_at:
            return place, ripe_at
    return len(pending), None


def final_words(words: Sequence[Heard], following: Heard | None, final_upto: int) -> list[tuple[SttWord, int]]:
    """Return the words as they are told, each with its end in samples.

    They begin at `final_upto` or later and do not overlap. Where the provider's times overlap, the border is drawn
    between the middles, so that neither word loses the place by which it is known.
    """
    told: list[tuple[SttWord, int]] = []
    upto = final_upto
    nexts: list[Heard | None] = [*words[1:], following]
    for word, after in zip(words, nexts, strict=True):
        start = max(word.start, upto)
        upto = max(start, word.end if after is None else _border(word, after))
        told.append((_word(word, start, upto), upto))
    return told


def text_of(words: Sequence[Heard]) -> str:
    """Return the words as their segments show them."""
    return "".join(word.said.shown for word in words).strip()


def is_glued(words: Sequence[Heard]) -> bool:
    """Return whether no space stands before the first word."""
    return not words[0].said.shown[:1].isspace()


def texts_by_segment(words: Sequence[Heard]) -> dict[int, str]:
    """Return the text of each segment that has words here."""
    texts = dict.fromkeys(segments_of(words), "")
    for word in words:
        texts[word.segment] += word.said.shown
    return {number: text.strip() for number, text in texts.items()}


def segments_of(words: Sequence[Heard]) -> list[int]:
    """Return the ids of the words' segments."""
    return sorted({word.segment for word in words})


def language_of(words: Sequence[Heard]) -> str | None:
    """Return the language of the first word that has one."""
    return next((word.said.language for word in words if word.said.language), None)


def _border(word: Heard, after: Heard) -> int:
    middle = (word.middle2 + after.middle2) // 4
    return min(word.end, max(middle, after.start), (after.middle2 - 1) // 2)


def _word(word: Heard, start: int, end: int) -> SttWord:
    said = word.said
    return SttWord(
        word=said.text, start=start / SAMPLE_RATE, end=end / SAMPLE_RATE, segment=word.segment, language=said.language,
        probability=said.probability, hallucination_score=said.hallucination_score,
    )  # fmt: skip
