"""What may be set of a speech session while it runs: the provider's options, and the controls of the audio stream."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

_MOST_EXTRA_BYTES: Final = 2048


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Vad(_Value):
    """The provider's voice detection (WIRE 2.3). Unset means the provider's own."""

    skip: bool | None = None
    threshold: float | None = Field(default=None, ge=0, le=1)
    extra: dict[str, Any] = Field(default_factory=dict, max_length=32)
    """Further keys of `vad_kwargs`, as they are: JSON, 2 KB at most."""

    @field_validator("extra")
    @classmethod
    def _is_small_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        """What JSON or UTF-8 cannot hold would fail later, in the query or in the journal."""
        try:
            size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
        except (ValueError, TypeError, RecursionError) as exc:
            raise ValueError(f"not JSON: {type(exc).__name__}") from None
        if size > _MOST_EXTRA_BYTES:
            raise ValueError(f"{size} bytes of JSON are more than {_MOST_EXTRA_BYTES}")
        return value


class SttOptions(_Value):
    """What the provider is told when a connection opens (WIRE 2.3); unset is left out of the query."""

    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z]{2,8})?$")] | None = None
    """A code such as `en`, `yue` or `zh-hant`; None lets the provider find out."""
    prompt: Annotated[str, StringConstraints(max_length=8192)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=1)
    vad: Vad | None = None
    text_timeout_s: float = Field(default=1.0, ge=1, le=29)
    """Silence after which text is final: the provider's `text_timeout_seconds`, and ours where it marks no words."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    max_retries: int | None = Field(default=None, ge=1, le=10)
    """Tries of the provider at one piece of audio."""


class Flush(_Value):
    """Send what is held for a frame now."""

    type: Literal["flush"] = "flush"


class Clear(_Value):
    """A new speaker or topic: the provider forgets what was said so far. What is not final yet it hears again."""

    type: Literal["clear"] = "clear"


class ChangeOptions(SttOptions):
    """Go on with other options. Fields that are absent stay as they are; null goes back to the provider's own.

    A connection with them is opened and fed before the one without closes; options as they were open none. What is not
    final by then is heard again, and words after this entry are made final under these options. Options that the
    provider refuses are told as `stt.trouble`, and the session goes on with those before.
    """

    type: Literal["options"] = "options"


class End(_Value):
    """Hang up: everything before is transcribed, then the run completes."""

    type: Literal["end"] = "end"


AudioControl = Annotated[Flush | Clear | ChangeOptions | End, Field(discriminator="type")]
