"""What the model reads of a call in the background (TOOL-13): first that it runs, later what it came to. Pure.

Every call has its one result where the model looks for it, so one that is not waited for has `RUNS` there. What it came
to stands in a message of its own behind whatever was said meanwhile, under the user's role: the one that a provider
takes in every place.
"""

from collections.abc import Mapping
from typing import Any, Final

RUNS: Final = "The call runs in the background. Go on without it: what comes of it is told in a later message."


def news(provider_id: str, name: str, content: str) -> dict[str, Any]:
    """Return the message that tells what a call came to."""
    return {"role": "user", "content": f"{_begins(provider_id)} ({name}):\n{content}"}


def tells(message: Mapping[str, Any], provider_id: str) -> bool:
    """Whether a message tells what this call came to: as its result, or as news of it."""
    content = message.get("content")
    if message["role"] == "tool":
        return message.get("tool_call_id") == provider_id and content != RUNS
    return message["role"] == "user" and isinstance(content, str) and content.startswith(f"{_begins(provider_id)} ")


def _begins(provider_id: str) -> str:
    return f"News of call {provider_id}"
