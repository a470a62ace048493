"""The engine `tones`: hears, in samples of any frame size, the words that `tones.encode` made. Nothing is remembered.

                 loud sample                   mark, symbols, then silence: settled
    seeking ───────────────────► in a word ──────────────────────────────────────► seeking
       ▲                             │ anything else
       └──── silence ◄── in damage ◄─┘         settled as DAMAGED, from its first sound to the silence

A loss or repetition of three samples or more inside a word always damages it: its length is measured to two samples,
its tones must keep their phase, and its third symbol must fit. Words must also follow each other after exactly their
own gap, or after a pause, so that a frame lost from the silence between two words marks the second. Loudness from a
sixteenth to four times the encoder's is heard alike; noise must stay below LOUD.
"""

from array import array
from collections.abc import Iterator

from workers.emulator.speech.engine import Heard, Hypothesis
from workers.emulator.speech.tone_detector import Sounded, hear_mark, hear_symbol
from workers.emulator.speech.tones import GAP, MARK, PAUSE, SYMBOL, SYMBOLS, VOICED, check_symbol, from_pcm
from workers.emulator.speech.vocabulary import VOCABULARY

DAMAGED = "<damaged>"
LOUD = 400  # a sample beyond this is sound; the encoder peaks at 8000
_QUIET = GAP // 2  # silence that ends a word
_SLACK = 2  # samples: how well resampled audio keeps a word's edges
_JITTER = 0.4  # samples: how well one symbol's phase fits the one before
_BLOCK = 80
_DAMAGED_PROBABILITY = 0.05


class ToneEngine:
    """Decodes `tones`. Cheap enough to run on the event loop: about 3 ms for a second of audio."""

    slow = False

    def __init__(self) -> None:
        self._samples = array("h")
        self._from = 0  # position of the first sample kept
        self._at = 0  # all before it is silence, or has been told
        self._word: _Word | None = None
        self._in_damage = False
        self._last_end: int | None = None

    def feed(self, pcm: bytes) -> Hypothesis:
        """Hear more samples."""
        self._samples.extend(from_pcm(pcm))
        settled = tuple(self._heard())
        self._forget()
        return Hypothesis(settled, self._guess())

    def finish(self) -> Hypothesis:
        """The end of the audio counts as silence; a word that it cuts is damaged."""
        end = self._end
        self._samples.extend(array("h", bytes(2 * (VOICED + GAP))))
        settled = tuple(Heard(word.text, word.start, min(word.end, end), word.probability) for word in self._heard())
        self.close()
        return Hypothesis(settled)

    def close(self) -> None:
        """Drop what is kept."""
        self._samples = array("h")
        self._word = None

    @property
    def _end(self) -> int:
        return self._from + len(self._samples)

    def _heard(self) -> Iterator[Heard]:
        """Every word that the samples now complete."""
        while True:
            if self._in_damage:
                silence = self._silence_after(self._at)
                if silence is None:
                    return
                yield Heard(DAMAGED, self._at, silence, _DAMAGED_PROBABILITY)
                self._seek_from(silence, None)
            elif self._word is None:
                if not self._find_onset():
                    return
            else:
                outcome = self._word.listen(self._samples, self._at - self._from)
                if outcome is None:
                    return
                if not outcome:
                    self._in_damage = True
                    continue
                yield self._word.heard(self._at)
                self._seek_from(self._at + VOICED + _SLACK, self._at + VOICED)

    def _seek_from(self, position: int, last_end: int | None) -> None:
        self._at, self._word, self._in_damage, self._last_end = position, None, False, last_end

    def _find_onset(self) -> bool:
        """Advance to the next loud sample."""
        start = self._at - self._from
        found = first_loud(self._samples, start)
        if found is None:
            self._at = max(self._at, self._end)
            return False
        self._at = self._from + found
        self._word = _Word()
        self._in_damage = not self._well_spaced()
        return True

    def _well_spaced(self) -> bool:
        if self._last_end is None:
            return True
        gap = self._at - self._last_end
        return abs(gap - GAP) <= _SLACK or gap >= PAUSE - _SLACK

    def _silence_after(self, position: int) -> int | None:
        """Where the first silence of _QUIET begins, to the block."""
        quiet = 0
        for start in range(position - self._from, len(self._samples) - _BLOCK + 1, _BLOCK):
            quiet = 0 if _is_loud(self._samples[start : start + _BLOCK]) else quiet + _BLOCK
            if quiet >= _QUIET:
                return self._from + start + _BLOCK - quiet
        return None

    def _guess(self) -> tuple[Heard, ...]:
        text = DAMAGED if self._in_damage else self._word.guess() if self._word else None
        return () if text is None else (Heard(text, self._at, min(self._end, self._at + VOICED), 0.5),)

    def _forget(self) -> None:
        """Drop the samples before the word under way."""
        del self._samples[: max(0, self._at - self._from)]
        self._from = max(self._from, self._at)


class _Word:
    """A word under way: what of it was recognised so far."""

    def __init__(self) -> None:
        self._delays: tuple[float, float] | None = None
        self._marked = False
        self._symbols: list[int] = []
        self._purity = 1.0

    def listen(self, samples: "array[int]", at: int) -> bool | None:
        """True once the word that begins at `at` is whole, False once it is not one, None while it may become one."""
        while len(self._symbols) < SYMBOLS:
            part = SYMBOL if self._marked else MARK
            place = at + MARK * self._marked + SYMBOL * len(self._symbols)
            if len(samples) < place + part:
                return None
            if not self._take(hear_symbol(samples, place) if self._marked else hear_mark(samples, place)):
                return False
        return self._ends_well(samples, at)

    def guess(self) -> str | None:
        """The word as far as it is known: after one symbol another word that begins like it, None before."""
        if not self._symbols:
            return None
        first, second = (*self._symbols, *self._symbols)[:2]
        return VOCABULARY[16 * first + second]

    def heard(self, at: int) -> Heard:
        """The whole word."""
        return Heard(VOCABULARY[16 * self._symbols[0] + self._symbols[1]], at, at + VOICED, round(self._purity, 3))

    def _take(self, sounded: Sounded | None) -> bool:
        if sounded is None or any(abs(delay) > _SLACK + _JITTER for delay in sounded.delays):
            return False
        delays = (sounded.delays[0], sounded.delays[-1])
        steps = zip(delays, self._delays or delays, strict=True)
        if any(abs(now - before) > _JITTER for now, before in steps):
            return False
        self._delays, self._purity = delays, min(self._purity, sounded.purity)
        if self._marked:
            self._symbols.append(sounded.symbol)
        self._marked = True
        return True

    def _ends_well(self, samples: "array[int]", at: int) -> bool | None:
        """The check fits, the last sample is where it should be, and silence follows."""
        first, second, third = self._symbols
        if third != check_symbol(first, second):
            return False
        end = at + VOICED
        if len(samples) < end + _SLACK + _QUIET:
            return None
        on_time = _is_loud(samples[end - _SLACK - 1 : end])
        return on_time and not _is_loud(samples[end + _SLACK : end + _SLACK + _QUIET])


def _is_loud(samples: "array[int]") -> bool:
    return max(samples) > LOUD or min(samples) < -LOUD


def first_loud(samples: "array[int]", start: int) -> int | None:
    """The place of the first loud sample from `start`, if there is one."""
    for block_start in range(start, len(samples), _BLOCK):
        block = samples[block_start : block_start + _BLOCK]
        if _is_loud(block):
            return block_start + next(place for place, sample in enumerate(block) if abs(sample) > LOUD)
    return None
