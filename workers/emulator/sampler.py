"""What the model says when no scene scripts it: prose, tool calls, JSON under a schema, text under a grammar.

From a seeded generator: the same dialogue and the same generator give the same answer. What a scene scripts is held to
the grammar too. Knows nothing of tokens, limits or the wire.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

from workers.core.grammar import Grammar, TooAmbiguous
from workers.emulator.dialogue import Dialogue
from workers.emulator.errors import bad_request
from workers.emulator.grammar_sampler import compose, force
from workers.emulator.json_schema import lenient_shape
from workers.emulator.lexicon import sentence, sentences
from workers.emulator.scenes import ScriptedCall
from workers.emulator.schema import Tool
from workers.emulator.schema_sampler import Hints, SchemaSampler, hints_from, some_object
from workers.emulator.shapes import Shape

# Words of a tool's name that say nothing about its subject.
_VERBS = frozenset({"get", "set", "put", "run", "the", "and", "for", "call", "make", "fetch", "tool", "function"})
_REASONING = {"low": 1, "medium": 3, "adaptive": 3, "high": 6, "xhigh": 9, "max": 12}
_MOST_CALLS = 4
_QUOTE_AT_MOST = 600


@dataclass(frozen=True)
class Speech:
    """An answer before limits: text, calls as (name, arguments text), reasoning."""

    text: str | None
    calls: tuple[tuple[str, str], ...] = ()
    reasoning: str | None = None
    interleave: bool = False


def improvise(dialogue: Dialogue, shape: Shape | Grammar | None, rng: Random) -> Speech:
    """An unscripted answer. `shape` is that of the response format, None if the form is free or any JSON object.

    Raises Refused for a grammar that is too ambiguous to sample.
    """
    called = _tools_to_call(dialogue, rng)
    if called:
        hints = hints_from(dialogue.user)
        return Speech(None, tuple((tool.function.name, arguments_for(tool, hints, rng)) for tool in called))
    if isinstance(shape, Grammar):
        return Speech(_under(lambda: compose(shape, rng)))
    if shape is not None:
        return Speech(_dump(SchemaSampler(rng).draw(shape)))
    if dialogue.form == "json_object":
        return Speech(_dump(some_object(rng)))
    if dialogue.results:
        return Speech(_report(dialogue))
    return Speech("".join(islice(sentences(rng), rng.randint(2, 6))))


def held_to(shape: Shape | Grammar | None, speech: Speech | None) -> Speech | None:
    """A scripted answer as a model under a grammar can say it; schemas leave scripts alone, so do answers without text.

    Raises Refused for a grammar that is too ambiguous for it.
    """
    if speech is None or speech.text is None or not isinstance(shape, Grammar):
        return speech
    said = speech.text
    return replace(speech, text=_under(lambda: force(shape, said)))


def _under(say: Callable[[], str]) -> str:
    try:
        return say()
    except TooAmbiguous as error:
        raise bad_request(f"The grammar cannot be sampled: {error}, field: 'response_format.grammar'") from None


def arguments_for(tool: Tool, hints: Hints, rng: Random) -> str:
    """Arguments under a tool's schema as JSON text, with what the user spoke of where it fits."""
    drawn = SchemaSampler(rng, hints).draw(lenient_shape(tool.function.parameters or {"type": "object"}))
    return _dump(drawn if isinstance(drawn, dict) else {})


def scripted_arguments(call: ScriptedCall, dialogue: Dialogue, rng: Random) -> str:
    """The arguments of a scripted call that leaves them open; a tool that is not on offer gets none."""
    tool = next((tool for tool in dialogue.tools if tool.function.name == call.name), None)
    return arguments_for(tool, hints_from(dialogue.user), rng) if tool else "{}"


def reason(effort: str, topic: str, rng: Random) -> str:
    """Reasoning of a length that grows with the effort."""
    start = f"The user says: {topic[:80]!r}. " if topic else ""
    return start + " ".join(sentence(rng) for _ in range(_REASONING.get(effort, 3)))


def more_prose(rng: Random) -> Iterator[str]:
    """Prose without end, for a request that ignores the end of the text."""
    for following in sentences(rng):
        yield f" {following.strip()}"


def _tools_to_call(dialogue: Dialogue, rng: Random) -> list[Tool]:
    """The tools spoken of while no result is there yet; one by chance if a call is forced and none was spoken of."""
    if not dialogue.may_call:
        return []
    wanted = [tool for tool in dialogue.forced or dialogue.tools if _speaks_of(dialogue.user, tool)]
    if dialogue.forced:
        wanted = wanted or [rng.choice(dialogue.forced)]
    elif dialogue.results or dialogue.form != "text":
        wanted = []
    return wanted[: _MOST_CALLS if dialogue.parallel else 1]


def _speaks_of(text: str, tool: Tool) -> bool:
    said = set(re.findall(r"[^\W_]+", text.casefold()))
    name = tool.function.name.casefold()
    words = {word for word in re.split(r"[_-]+", name) if len(word) > 1}
    spelled_out = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text.casefold()) is not None
    return spelled_out or bool(said & (words - _VERBS or words))


def _report(dialogue: Dialogue) -> str:
    return " ".join(
        f"According to {result.name or 'the tool'}: {result.text[:_QUOTE_AT_MOST]}." for result in dialogue.results
    )


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
