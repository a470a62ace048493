"""Templates in scripted texts. Only these forms are replaced; other braces, as in JSON, stay as they are.

{user}  {model}           the last user text; the model's id
{match:N}                 group N of the rule's regular expression, 0 for the whole match
{tool_result:N}           the Nth tool result since the user last spoke
{tool_result:N:a.b.0}     a value inside that result, read as JSON
"""

import json
import re
from typing import Any

from workers.emulator.dialogue import Dialogue

_FORM = re.compile(r"\{(?:(user|model)|match:(\d+)|tool_result:(\d+)(?::([\w.-]+))?)\}")


def fill(text: str, dialogue: Dialogue, groups: tuple[str, ...]) -> str:
    """The text with its templates replaced. What does not exist is named in square brackets, so that it is seen."""

    def value(found: re.Match[str]) -> str:
        name, group, result, path = found.groups()
        if name is not None:
            return dialogue.user if name == "user" else dialogue.model
        if group is not None:
            return groups[int(group)] if int(group) < len(groups) else f"[no match {group}]"
        if int(result) >= len(dialogue.results):
            return f"[no tool result {result}]"
        whole = dialogue.results[int(result)].text
        return whole if path is None else _inside(whole, path)

    return _FORM.sub(value, text)


def fill_all(value: Any, dialogue: Dialogue, groups: tuple[str, ...]) -> Any:
    """The same for every string inside a JSON value."""
    match value:
        case str():
            return fill(value, dialogue, groups)
        case dict():
            return {key: fill_all(inner, dialogue, groups) for key, inner in value.items()}
        case list() | tuple():
            return [fill_all(inner, dialogue, groups) for inner in value]
        case _:
            return value


def _inside(text: str, path: str) -> str:
    try:
        found = json.loads(text)
        for step in path.split("."):
            found = found[int(step)] if isinstance(found, list) else found[step]
    except (ValueError, LookupError, TypeError, RecursionError):
        return f"[no {path} in the tool result]"
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
