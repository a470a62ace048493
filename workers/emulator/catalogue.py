"""The models on offer and how each behaves on the wire. Knows nothing of requests."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_PREFIX = "accounts/fireworks/models/"
_GRADES = frozenset({"low", "medium", "high"})


class UsageStyle(StrEnum):
    """Where a stream carries its usage (WIRE 1.6). Both styles live side by side at the provider."""

    CLASSIC = "classic"  # on the chunk with finish_reason, without asking
    INCLUDE_USAGE_ONLY = "include_usage_only"  # on a last chunk without choices, and only when asked for


class ModelCard(BaseModel):
    """One model. `efforts` are the reasoning efforts that it takes; `none` is among them only if it can be silenced."""

    model_config = ConfigDict(frozen=True)

    id: str
    context_length: int = Field(default=131_072, ge=16)
    usage_style: UsageStyle = UsageStyle.CLASSIC
    opens_with: Literal["absent", "null", "empty"] = "absent"  # `content` in the first delta; all three are seen
    efforts: frozenset[str] = frozenset({"none"})
    default_effort: str = "none"
    supports_image_input: bool = True

    @property
    def counts_reasoning(self) -> bool:
        """Whether usage has `completion_tokens_details`: only models that can reason report it."""
        return self.efforts != {"none"}


DEFAULT_MODELS = (
    ModelCard(id=_PREFIX + "emulated-classic"),
    ModelCard(
        id=_PREFIX + "emulated-new",
        context_length=262_144,
        usage_style=UsageStyle.INCLUDE_USAGE_ONLY,
        opens_with="empty",
        efforts=_GRADES | {"none", "max", "xhigh", "adaptive"},
    ),
    ModelCard(
        id=_PREFIX + "emulated-reasoning",
        usage_style=UsageStyle.INCLUDE_USAGE_ONLY,
        opens_with="null",
        efforts=_GRADES,
        default_effort="medium",
    ),
    ModelCard(id=_PREFIX + "emulated-small", context_length=512),
)


def find(models: Iterable[ModelCard], name: str) -> ModelCard | None:
    """The card for a model name; `<model>#<deployment>` is served by the model (WIRE 0.3)."""
    base = name.partition("#")[0]
    return next((card for card in models if card.id == base), None)


def listing(models: Iterable[ModelCard]) -> dict[str, Any]:
    """The body of GET /models (WIRE 0.3)."""
    return {"object": "list", "data": [_entry(card) for card in models]}


def _entry(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "owned_by": "fireworks",
        "created": 1_750_000_000,
        "kind": "HF_BASE_MODEL",
        "supports_chat": True,
        "supports_image_input": card.supports_image_input,
        "supports_tools": True,
        "context_length": card.context_length,
    }
