"""Scenes: scripted dialogues. A scene is a list of rules; the first whose conditions all hold answers the request.

Values only: whether a rule is used up is the caller's bookkeeping (`pick` takes a predicate). A rule without a reply
lets the sampler answer, under the rule's faults and pace. Texts may hold templates, see `templates`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workers.emulator.batch.config import BatchConfig
from workers.emulator.dialogue import Dialogue
from workers.emulator.faults import parse_faults
from workers.emulator.speech.config import SpeechConfig


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Value):
    """A range of counts, both ends included; no upper end means any number."""

    min: int = 0
    max: int | None = None

    def holds(self, count: int) -> bool:
        """Whether the count is inside."""
        return self.min <= count and (self.max is None or count <= self.max)


class When(_Value):
    """Conditions; those not given hold always.

    `model` is the whole id or its last part. `user`, `system` and `tool_result` are substrings, letter case ignored: of
    the last user message, the system messages, any tool result since. `tool_results` counts those: a number or a span.
    `tools` must all be on offer. `free_form` true: plain text is an acceptable answer (no forced call, no JSON).
    """

    model: str | None = None
    user: str | None = None
    user_regex: str | None = None
    system: str | None = None
    tool_result: str | None = None
    tool_results: int | Span | None = None
    tools: tuple[str, ...] = ()
    free_form: bool | None = None
    stream: bool | None = None

    @field_validator("user_regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value

    def holds(self, dialogue: Dialogue) -> bool:
        """Whether every condition holds."""
        return self._counts_hold(dialogue) and self._texts_hold(dialogue)

    def groups(self, dialogue: Dialogue) -> tuple[str, ...]:
        """What `user_regex` captured: the whole match, then its groups."""
        found = re.search(self.user_regex, dialogue.user) if self.user_regex is not None else None
        return (found.group(0), *(group or "" for group in found.groups())) if found else ()

    def _counts_hold(self, dialogue: Dialogue) -> bool:
        span = (
            Span(min=self.tool_results, max=self.tool_results)
            if isinstance(self.tool_results, int)
            else self.tool_results
        )
        offered = {tool.function.name for tool in dialogue.tools}
        return (
            (span is None or span.holds(len(dialogue.results)))
            and offered.issuperset(self.tools)
            and self.free_form in (None, dialogue.free_form)
            and self.stream in (None, dialogue.stream)
        )

    def _texts_hold(self, dialogue: Dialogue) -> bool:
        return (
            self.model in (None, dialogue.model, dialogue.model.rpartition("/")[2])
            and _inside(self.user, dialogue.user)
            and _inside(self.system, dialogue.system)
            and (self.tool_result is None or any(_inside(self.tool_result, result.text) for result in dialogue.results))
            and (self.user_regex is None or re.search(self.user_regex, dialogue.user) is not None)
        )


def _inside(needle: str | None, text: str) -> bool:
    return needle is None or needle.casefold() in text.casefold()


class ScriptedCall(_Value):
    """A call to make. Arguments: an object, raw text (even bad JSON), or None to sample under the tool's schema."""

    name: str
    arguments: dict[str, Any] | str | None = None


class Reply(_Value):
    """What the model says. Text and calls may stand together. `reasoning` None leaves it to the model, "" silences it.

    `interleave` mixes the argument pieces of parallel calls.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ScriptedCall, ...] = ()
    interleave: bool = False


class Rule(_Value):
    """Conditions and what follows. `times`: how often the rule may be used, None is for ever. `pace`: tokens/s."""

    when: When = When()
    reply: Reply | None = None
    faults: tuple[str, ...] = ()
    pace: Annotated[float, Field(ge=0)] | None = None
    times: Annotated[int, Field(ge=0)] | None = None

    @field_validator("faults")
    @classmethod
    def _exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_faults(value)
        return value

    @property
    def fault_specs(self) -> tuple[str, ...]:
        """The faults, the rule's pace first among them."""
        return self.faults if self.pace is None else (f"pace={self.pace}", *self.faults)


class Scene(_Value):
    """An ordered list of rules, and how speech and batches behave; None leaves that to the server's settings."""

    name: str = "scene"
    rules: tuple[Rule, ...] = ()
    speech: SpeechConfig | None = None
    batch: BatchConfig | None = None


@dataclass(frozen=True)
class Cue:
    """A rule that applies: its place in the scene, and what its regular expression captured."""

    position: int
    rule: Rule
    groups: tuple[str, ...]


def pick(scene: Scene, dialogue: Dialogue, usable: Callable[[int, Rule], bool]) -> Cue | None:
    """The first usable rule whose conditions hold."""
    for position, rule in enumerate(scene.rules):
        if usable(position, rule) and rule.when.holds(dialogue):
            return Cue(position, rule, rule.when.groups(dialogue))
    return None


def load_scene(path: str | Path) -> Scene:
    """A scene from a JSON file. Raises OSError, or pydantic's ValidationError naming the place."""
    return Scene.model_validate_json(Path(path).read_text(encoding="utf-8"))
