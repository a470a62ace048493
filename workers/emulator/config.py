"""Every switch of the stand-in, frozen. Where the wire is unknown the default is that of WIRE 8."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.emulator.batch.config import BatchConfig
from workers.emulator.catalogue import DEFAULT_MODELS, ModelCard
from workers.emulator.default_scene import DEFAULT_SCENE
from workers.emulator.scenes import Scene
from workers.emulator.speech.config import SpeechConfig


class RateLimits(BaseModel):
    """What the rate-limit headers say (WIRE 5). The stand-in reports limits; only a fault makes it answer 429."""

    model_config = ConfigDict(frozen=True)

    requests: int = 6_000
    prompt_tokens: int = 3_600_000
    uncached_prompt_tokens: int = 900_000
    generated_tokens: int = 36_000


class EmulatorConfig(BaseModel):
    """Settings of one server.

    `pace` is tokens per second, 0 = as fast as possible. `accepted_keys` None takes any key that begins with
    `key_prefix`. `stream_required_above` is rule R1: the largest `max_tokens` without a stream, None turns it off.
    `validation_status` 422 answers schema violations in shape E3, which the published description has and nobody saw.
    `tolerated_keys` are body keys outside the closed schema that are dropped instead of refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelCard, ...] = DEFAULT_MODELS
    scene: Scene = DEFAULT_SCENE
    seed: int = 7
    pace: float = Field(default=0.0, ge=0)
    tokens_per_chunk: int = Field(default=1, ge=1)
    accepted_keys: frozenset[str] | None = None
    key_prefix: str = "fw_"
    stream_required_above: int | None = 4096
    validation_status: Literal[400, 422] = 400
    tolerated_keys: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})  # `developer` is unknown (WIRE 1.3)
    default_max_tokens: int = Field(default=2048, ge=1)
    prompt_cache: bool = True
    rate_limits: RateLimits = RateLimits()
    speech: SpeechConfig = SpeechConfig()
    batch: BatchConfig = BatchConfig()
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
