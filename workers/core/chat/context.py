"""What the model reads before the run's own messages: the system prompt, composed anew each time from its parts, the
conversation, the settings' parameters, and what the provider's prompt cache goes by. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from api_contracts import keys
from api_contracts.chat import ChatRequest
from api_contracts.messages import Message
from api_contracts.sampling import Sampling

Plain = Mapping[str, Any]

_LASTING: Final = frozenset(Sampling.model_fields)
_ONE_SETTING: Final = (("max_tokens", "max_completion_tokens"), ("thinking", "reasoning_effort"))


def kept(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the request's messages as a conversation keeps them."""
    return [message.model_dump(mode="json", exclude_none=True) for message in messages]


def composed(settings: Plain, messages: Sequence[Plain]) -> list[dict[str, Any]]:
    """Return messages as the provider takes them, under one system prompt.

    It is the settings' base, the system messages with which `messages` begin, and the settings' additions; without
    base and additions the messages keep their own form.
    """
    role = settings.get("developer_as") or "system"
    sent = [dict(each) | ({"role": role} if each["role"] == "developer" else {}) for each in messages]
    base, additions = settings.get("system"), (settings.get("additions") or {}).values()
    if base is None and not additions:
        return sent
    opening = 0
    while opening < len(sent) and sent[opening]["role"] == "system" and isinstance(sent[opening]["content"], str):
        opening += 1
    texts = [*([base] if base else []), *(each["content"] for each in sent[:opening]), *additions]
    return [{"role": "system", "content": "\n\n".join(texts)}, *sent[opening:]]


def parameters(request: ChatRequest, settings: Plain) -> dict[str, Any]:
    """Return the settings' parameters that the request does not give itself."""
    given = request.model_fields_set | set(request.extra)
    barred = {name for pair in _ONE_SETTING if given & set(pair) for name in pair}
    return {
        name: value for name, value in settings.items() if name in _LASTING and name not in given and name not in barred
    }


def affinity(request: ChatRequest) -> dict[str, str]:
    """Return what the provider's prompt cache goes by, where the request does not say: the tenant, the conversation."""
    found = cache_wall(request.tenant)
    if request.conversation is not None:
        found["prompt_cache_key"] = keys.cache_key(request.tenant, request.conversation.id)
    return found


def cache_wall(tenant: str) -> dict[str, str]:
    """Return what keeps the prompts of a tenant apart from those of others in the provider's cache."""
    return {"prompt_cache_isolation_key": keys.cache_namespace(tenant)}
