"""One streaming connection without its socket: frames and messages in, acts out. No clock, no loop (WIRE 2.4 to 2.8).

audio    -> engine -> transcript -> update, at most every `update_every_s` of audio
trace    -> echo at once; the trace "final" also settles the text, after its echo, as closing clients find out
clear    -> a new engine, the context is gone; times go on
checkpoint -> everything settled and told, then the echo; "final" also ends the session
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from workers.emulator.speech import messages
from workers.emulator.speech.config import SpeechConfig
from workers.emulator.speech.engine import RATE, EngineMaker, EngineMissing, Hypothesis
from workers.emulator.speech.faults import Blow, SpeechFaults
from workers.emulator.speech.messages import Manner
from workers.emulator.speech.parameters import Parameters
from workers.emulator.speech.state import SpeechStats
from workers.emulator.speech.tone_decoder import DAMAGED
from workers.emulator.speech.transcript import Segment, Telling, Transcript

_HOLE = 7
_FINAL = "final"


@dataclass(frozen=True)
class Send:
    """A text message, after so many wall-clock seconds."""

    text: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Close:
    """A close frame, after so many wall-clock seconds."""

    code: int
    after_s: float = 0.0


@dataclass(frozen=True)
class Hang:
    """`up`: the connection ends without a close frame. `on`: nothing is read any more."""

    how: Literal["up", "on"]


Act: TypeAlias = Send | Close | Hang


class Conversation:
    """Hears one client. Every method returns what to do about it, in order."""

    def __init__(
        self, config: SpeechConfig, parameters: Parameters, faults: SpeechFaults, maker: EngineMaker, stats: SpeechStats
    ) -> None:
        self._config = config
        self._faults = faults
        self._maker = maker
        self._stats = stats
        self._manner = _manner(config, parameters, faults)
        self._transcript = Transcript(telling(config, parameters))
        self._engine = maker()
        self._engine_from = 0  # samples before the engine's first
        self._samples = 0
        self._told_at = 0
        self._blows = list(faults.blows)
        self._rewriting = False
        self._again: list[Blow] = []
        self._silent = False  # a stalled server
        self._over = False  # no audio counts any more
        self._text_timeout_s = parameters.text_timeout_s or config.text_timeout_s

    @property
    def slow(self) -> bool:
        """Whether the next call belongs into a thread."""
        return self._engine.slow

    @property
    def patience_s(self) -> float | None:
        """How long to wait for the client before `idle` is due; None is for ever."""
        if self._over:
            return None
        if self._transcript.unsent:
            return max(self._config.update_every_s, 0.01)
        return self._text_timeout_s if self._transcript.unfinished else None

    def open(self) -> list[Act]:
        """The connection is up."""
        return self._strike()

    def audio(self, pcm: bytes) -> list[Act]:
        """A binary message."""
        if self._over:
            return []
        if len(pcm) % 2:
            return self._fail(f"audio must be whole 16-bit samples, not {len(pcm)} bytes", "invalid_audio")
        self._stats.audio_samples += len(pcm) // 2
        self._samples += len(pcm) // 2
        try:
            self._hear(self._engine.feed(pcm))
        except EngineMissing as error:
            return self._fail(str(error), "engine_missing")
        due = self._samples - self._told_at >= self._config.update_every_s * RATE
        return self._aloud(self._tell() if due else []) + self._strike()

    def text(self, message: str) -> list[Act]:
        """A text message."""
        try:
            body = json.loads(message)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self._fail("a text message must be a JSON object", "invalid_message")
        if isinstance(body.get("checkpoint_id"), str):
            return self._aloud(self._checkpoint(body["checkpoint_id"]))
        match body.get("object"):
            case "stt.input.trace" if isinstance(body.get("trace_id"), str):
                return self._aloud(self._trace(body))
            case "stt.state.clear" if isinstance(body.get("reset_id"), str):
                return self._aloud(self._clear(body))
        return self._fail(f"unknown message: {message[:200]}", "invalid_message")

    def idle(self) -> list[Act]:
        """Nothing came for `patience_s`: tell what is left, else take it for silence."""
        if not self._transcript.unsent:
            self._transcript.conclude()
        return self._aloud(self._tell())

    def close(self) -> None:
        """The connection is gone."""
        self._engine.close()

    def _hear(self, hypothesis: Hypothesis) -> None:
        self._stats.words += len(hypothesis.settled)
        self._stats.damaged += sum(word.text == DAMAGED for word in hypothesis.settled)
        self._transcript.hear(hypothesis.shifted(self._engine_from), self._samples)

    def _tell(self) -> list[Act]:
        """An update, if there is news."""
        if self._rewriting:
            self._rewriting = not self._transcript.rewrite_final()
        if not self._transcript.unsent:
            return []
        changed = self._transcript.told()
        self._told_at = self._samples
        if not changed:
            return []
        whole = self._config.lists == "all" or self._faults.has("all_segments")
        message = messages.update(self._transcript.all_segments() if whole else changed, self._manner)
        again = self._told_again(changed)
        copies = 2 if self._faults.has("duplicate") else 1
        self._stats.updates += copies
        return [Send(message)] * copies + again

    def _told_again(self, changed: tuple[Segment, ...]) -> list[Act]:
        """The update once more, shorter or with an empty end, where that was asked for and can be."""
        last, acts = changed[-1], list[Act]()
        if "shorter" in self._again and len(last.words) > 1 and not last.words[-1].is_final:
            self._again.remove("shorter")
            shorter = (*changed[:-1], replace(last, words=last.words[:-1]))
            acts.append(Send(messages.update(shorter, self._manner)))
        if "empty" in self._again:
            self._again.remove("empty")
            acts.append(Send(messages.update((*changed, Segment(last.id + 1, ())), self._manner)))
        self._stats.updates += len(acts)
        return acts

    def _checkpoint(self, name: str) -> list[Act]:
        self._stats.checkpoints += 1
        if name != _FINAL:
            return [*self._flush(), *self._echo(messages.checkpoint(name, self._manner))]
        try:
            acts = [*self._finish(), *self._echo(messages.checkpoint(name, self._manner))]
        except EngineMissing as error:
            return self._fail(str(error), "engine_missing")
        wait_s = self._config.close_after_final_s
        if wait_s is not None and not self._silent and not self._faults.has("no_close"):
            acts.append(Close(1000, wait_s + self._faults.slow_echo_ms / 1000))
        return acts

    def _trace(self, body: Mapping[str, Any]) -> list[Act]:
        acts = self._echo(messages.echo(body, "stt.output.trace", "trace_id"))
        return [*acts, *self._flush()] if body["trace_id"] == _FINAL else acts

    def _clear(self, body: Mapping[str, Any]) -> list[Act]:
        self._engine.close()
        self._engine, self._engine_from = self._maker(), self._samples
        self._transcript.clear(self._config.clear_restarts_ids)
        return [Send(messages.echo(body, "stt.state.cleared", "reset_id"))]

    def _flush(self) -> list[Act]:
        """All words that are whole are final; one under way goes on."""
        self._transcript.conclude()
        return self._tell()

    def _finish(self) -> list[Act]:
        if not self._over:
            self._over = True
            self._hear(self._engine.finish())
        return self._flush()

    def _echo(self, message: str) -> list[Act]:
        return [] if self._faults.has("no_echo") else [Send(message, self._faults.slow_echo_ms / 1000)]

    def _fail(self, message: str, code: str) -> list[Act]:
        self._over = True
        return self._aloud([Send(messages.error(message, code, self._manner)), Close(1011)])

    def _aloud(self, acts: list[Act]) -> list[Act]:
        return [act for act in acts if not (self._silent and isinstance(act, Send))]

    def _strike(self) -> list[Act]:
        """The blows that are due."""
        acts: list[Act] = []
        while self._blows and self._samples * 1000 >= self._blows[0][0] * RATE:
            acts += self._aloud(self._struck(self._blows.pop(0)[1]))
        return acts

    def _struck(self, blow: Blow) -> list[Act]:
        match blow:
            case "drop":
                self._over = True
                return [Hang("up")]
            case "close":
                self._over = True
                return [Close(self._faults.code)]
            case "stall":
                self._silent = True
                return []
            case "deaf":
                self._silent = True
                return [Hang("on")]
            case "error":
                return self._fail("A fault was asked for", "internal_server_error")
            case "malformed":
                whole = messages.update(self._transcript.all_segments(), self._manner)
                return [Send(whole[: len(whole) // 2])]
            case "unknown":
                return [Send(messages.unknown())]
            case _:
                self._note(blow)
                return []

    def _note(self, blow: Blow) -> None:
        """Take a blow that shows in later updates."""
        match blow:
            case "id_jump":
                self._transcript.skip_ids(_HOLE)
            case "rewrite_final":
                self._rewriting = True
            case _:
                self._again.append(blow)


def telling(config: SpeechConfig, parameters: Parameters) -> Telling:
    """How a transcript is told under these settings."""
    return Telling(
        text_timeout_s=parameters.text_timeout_s or config.text_timeout_s,
        final_lag_s=config.final_lag_s,
        segment_words=config.segment_words,
        segment_gap_s=config.segment_gap_s,
        mishear_every=config.mishear_every,
        split_every=config.split_every,
        withdraw_every=config.withdraw_every,
    )


def _manner(config: SpeechConfig, parameters: Parameters, faults: SpeechFaults) -> Manner:
    manner = Manner(
        language=parameters.language or "en",
        granularities=parameters.granularities,
        ids=config.ids,
        words=config.words,
        errors=config.errors,
        checkpoint=config.checkpoint,
        unordered=faults.has("unordered"),
    )
    if faults.has("string_ids"):
        manner = replace(manner, ids="string")
    if faults.has("no_words"):
        manner = replace(manner, words="none")
    return replace(manner, errors="string") if faults.has("string_error") else manner
