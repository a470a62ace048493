"""The switches of the stand-in's speech part, and the rules that make single connections fail. Values only.

Where the wire is unknown the default is that of WIRE 8.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workers.emulator.speech.faults import parse_speech_faults
from workers.emulator.speech.parameters import Parameters


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpeechWhen(_Value):
    """Conditions on the query of a connection; those not given hold always. `prompt` is a substring."""

    prompt: str | None = None
    language: str | None = None

    def holds(self, parameters: Parameters) -> bool:
        """Whether every condition holds."""
        return self.language in (None, parameters.language) and (
            self.prompt is None or self.prompt in (parameters.prompt or "")
        )


class SpeechRule(_Value):
    """Faults for connections. The first rule that holds and is not used up counts; one without faults lets pass.

    `times`: how many connections it is for; None is all. See `faults.GUIDE` for the faults.
    """

    when: SpeechWhen = SpeechWhen()
    faults: tuple[str, ...] = ()
    times: Annotated[int, Field(ge=0)] | None = None

    @field_validator("faults")
    @classmethod
    def _exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if parse_speech_faults(value).times is not None:
            raise ValueError("times belongs beside the rule's faults, not among them")
        return value


class SpeechConfig(_Value):
    """Settings of speech. Seconds are of audio unless said otherwise; `_every` counts words, 0 is never.

    engine              `auto` tells `tones` from a voice by its first sounds; `whisper` is an extra of its own
    ids                 of segments, as JSON numbers or strings
    lists               an update has the segments from the first changed one to the last, or all of them
    words               where words stand in an update: inside segments, at the top, both or nowhere
    errors              `{"error": {...}}` or `{"error": "..."}`
    checkpoint          its echo is bare, or carries the fields of an update as well
    close_after_final_s wall-clock seconds from the final checkpoint's echo to close 1000; None never closes
    bearer              whether `Bearer <key>` passes beside the documented bare key
    text_timeout_s      silence after which text is final, where the connection does not say; also wall-clock
                        seconds without any audio
    final_lag_s         how far back a word lies when it is final without silence
    update_every_s      the shortest time between two updates; no audio for as long sends what is left
    max_connections     beyond it the upgrade is refused with 429; the documented 10 would hinder tests
    heartbeat_s         wall-clock seconds between the server's pings; None sends none
    """

    engine: Literal["auto", "tones", "pocketsphinx", "whisper"] = "auto"
    ids: Literal["number", "string"] = "number"
    lists: Literal["changed", "all"] = "changed"
    words: Literal["both", "segments", "top", "none"] = "both"
    errors: Literal["object", "string"] = "object"
    checkpoint: Literal["bare", "full"] = "bare"
    close_after_final_s: Annotated[float, Field(ge=0)] | None = 0.5
    clear_restarts_ids: bool = True
    bearer: bool = True
    text_timeout_s: float = Field(default=1.0, gt=0)
    final_lag_s: float = Field(default=2.0, ge=0)
    update_every_s: float = Field(default=0.2, ge=0)
    segment_words: int = Field(default=12, ge=1)
    segment_gap_s: float = Field(default=0.6, ge=0)
    mishear_every: int = Field(default=9, ge=0)
    split_every: int = Field(default=11, ge=0)
    withdraw_every: int = Field(default=13, ge=0)
    max_connections: Annotated[int, Field(ge=0)] | None = None
    heartbeat_s: Annotated[float, Field(gt=0)] | None = None
    max_file_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    rules: tuple[SpeechRule, ...] = ()
