"""Decides a whole answer: which rule applies, what is said, where it is cut, what it costs. No connection in sight.

scene or sampler -> faults of speech -> limits -> usage, ids -> Take
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Any

from workers.emulator.completion import Completion, Limits, complete, disturbed, usage
from workers.emulator.config import EmulatorConfig
from workers.emulator.dialogue import Dialogue, read_dialogue
from workers.emulator.errors import Refused
from workers.emulator.faults import Faults, parse_faults
from workers.emulator.sampler import Speech, held_to, improvise, more_prose, reason, scripted_arguments
from workers.emulator.scenes import Cue, ScriptedCall, pick
from workers.emulator.schema import ChatBody
from workers.emulator.sse import Envelope
from workers.emulator.state import EmulatorState, derived
from workers.emulator.templates import fill, fill_all
from workers.emulator.tokens import message_tokens, preamble_tokens
from workers.emulator.told import Told, echo_of, matched
from workers.emulator.validation import Accepted

# What does not change the words: how they travel, how many may come, who pays. Left out of the seed, so that a stream
# says what the plain answer says and a smaller limit cuts the same text.
_NOT_SEEDED = frozenset(
    {
        *("stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "ignore_eos", "n"),
        *("user", "metadata", "service_tier", "perf_metrics_in_response", "context_length_exceeded_behavior"),
        *("prompt_cache_key", "prompt_cache_isolation_key", "prompt_cache_max_len"),
        *(
            "logprobs",
            "top_logprobs",
            "raw_output",
            "return_token_ids",
            "echo",
            "echo_last",
            "speculation",
            "prediction",
        ),
    }
)


@dataclass(frozen=True)
class Ask:
    """What beside the body decides an answer: the request's own faults, its time and its cache namespace."""

    request_id: str
    now: float
    faults: tuple[str, ...] = ()
    isolation: str | None = None


@dataclass(frozen=True)
class Take:
    """An answer, decided but not yet sent. `pace` in tokens per second, 0 = as fast as possible."""

    accepted: Accepted
    completions: tuple[Completion, ...]
    envelope: Envelope
    faults: Faults
    pace: float
    performance: dict[str, str]

    @property
    def tokens(self) -> int:
        """Tokens of all choices."""
        return sum(completion.tokens for completion in self.completions)

    @property
    def seconds(self) -> float:
        """How long the generation takes."""
        return self.tokens / self.pace if self.pace else 0.0


@dataclass(frozen=True)
class _Identity:
    """What ids and chance derive from: the request's digest, and how often the server saw it before."""

    seed: int
    digest: str
    occurrence: int

    def generator(self, choice: int) -> Random:
        """Chance: the same for every occurrence."""
        return Random(derived(self.seed, self.digest, choice))

    def response_id(self) -> str:
        return f"chatcmpl-{derived(self.seed, self.digest, self.occurrence)}"

    def call_ids(self, choice: int) -> Iterator[str]:
        number = 0
        while True:
            yield f"call_{derived(self.seed, self.digest, self.occurrence, choice, number)[:24]}"
            number += 1


class Director:
    """Turns accepted requests into takes. Counts the uses of rules and the prompts seen in the state."""

    def __init__(self, config: EmulatorConfig, state: EmulatorState) -> None:
        self._config = config
        self._state = state

    def direct(self, accepted: Accepted, ask: Ask) -> Take:
        """The whole answer. Raises Refused if a fault answers instead."""
        dialogue = read_dialogue(accepted.body)
        cue = pick(self._config.scene, dialogue, self._state.usable)
        if cue is not None:
            self._state.use(cue.position)
        faults = parse_faults([*(cue.rule.fault_specs if cue else ()), *ask.faults])
        reply = faults.reply(ask.request_id)
        if reply is not None:
            raise Refused(reply)
        digest = _digest(accepted.raw)
        identity = _Identity(self._config.seed, digest, self._state.occurrence(digest))
        completions = tuple(
            self._choice(accepted, dialogue, cue, faults, identity, index) for index in range(accepted.body.n or 1)
        )
        return self._take(accepted, completions, faults, identity, ask)

    def _choice(
        self,
        accepted: Accepted,
        dialogue: Dialogue,
        cue: Cue | None,
        faults: Faults,
        identity: _Identity,
        index: int,
    ) -> Completion:
        rng = identity.generator(index)
        scripted = held_to(accepted.shape, _scripted(cue, dialogue, rng))
        speech = scripted or improvise(dialogue, accepted.shape, rng)
        # A JSON schema suppresses reasoning (WIRE 4.2); so does a grammar here, of which the wire says nothing.
        if speech.reasoning is None and accepted.effort != "none" and accepted.shape is None:
            speech = Speech(speech.text, speech.calls, reason(accepted.effort, dialogue.user, rng), speech.interleave)
        limits = Limits(
            tokens=accepted.max_tokens,
            reasoning=accepted.reasoning_cap,
            stops=accepted.body.stops,
            padding=more_prose(rng) if accepted.body.ignore_eos and dialogue.free_form else (),
        )
        said = complete(disturbed(speech, faults), limits, identity.call_ids(index))
        return replace(said, echo=echo_of(accepted.body))

    def _take(
        self,
        accepted: Accepted,
        completions: tuple[Completion, ...],
        faults: Faults,
        identity: _Identity,
        ask: Ask,
    ) -> Take:
        given, card = accepted.body, accepted.card
        counts = usage(
            accepted.prompt_tokens,
            self._cached(accepted, ask.isolation),
            completions,
            with_reasoning=card.counts_reasoning,
        )
        pace = self._config.pace if faults.pace is None else faults.pace
        performance = _performance(counts, faults, pace) | _speculation(given, completions[0])
        options = given.stream_options
        envelope = Envelope(
            id=identity.response_id(),
            created=int(ask.now),
            model=given.model,
            card=card,
            usage=counts,
            asked_for_usage=options.include_usage if options else None,
            perf=performance if given.perf_metrics_in_response else None,
            tokens_per_chunk=(options.buffer_tokens if options else None) or self._config.tokens_per_chunk,
            faults=faults,
            told=Told.asked(given, counts["prompt_tokens"]),
        )
        return Take(accepted, completions, envelope, faults, pace, performance)

    def _cached(self, accepted: Accepted, isolation: str | None) -> int:
        """Prompt tokens that an earlier request had as its prefix; the last token is always computed anew."""
        given = accepted.body
        if not self._config.prompt_cache or given.prompt_cache_max_len == 0:
            return 0
        namespace = (given.model, given.prompt_cache_isolation_key or isolation)
        return min(self._state.cached_tokens(namespace, _prefixes(accepted)), accepted.prompt_tokens - 1)


def _scripted(cue: Cue | None, dialogue: Dialogue, rng: Random) -> Speech | None:
    """What the rule scripts, None if it leaves the answer to the sampler."""
    if cue is None or cue.rule.reply is None:
        return None
    reply, groups = cue.rule.reply, cue.groups
    return Speech(
        text=None if reply.text is None else fill(reply.text, dialogue, groups),
        calls=tuple((call.name, _arguments(call, dialogue, groups, rng)) for call in reply.tool_calls),
        reasoning=None if reply.reasoning is None else fill(reply.reasoning, dialogue, groups),
        interleave=reply.interleave,
    )


def _arguments(call: ScriptedCall, dialogue: Dialogue, groups: tuple[str, ...], rng: Random) -> str:
    match call.arguments:
        case None:
            return scripted_arguments(call, dialogue, rng)
        case str():
            return fill(call.arguments, dialogue, groups)
        case _:
            return json.dumps(fill_all(call.arguments, dialogue, groups), ensure_ascii=False)


def _digest(raw: dict[str, Any]) -> str:
    seeded = {key: value for key, value in raw.items() if key not in _NOT_SEEDED}
    return sha256(json.dumps(seeded, sort_keys=True).encode()).hexdigest()


def _prefixes(accepted: Accepted) -> list[tuple[str, int]]:
    """The digests of the prompt's prefixes, message by message, with their token counts."""
    digest = sha256(json.dumps(accepted.raw.get("tools"), sort_keys=True).encode())
    tokens = preamble_tokens(accepted.body)
    prefixes = []
    for raw, message in zip(accepted.raw["messages"], accepted.body.messages, strict=True):
        digest.update(json.dumps(raw, sort_keys=True).encode())
        tokens += message_tokens(message)
        prefixes.append((digest.hexdigest(), tokens))
    return prefixes


def _performance(counts: dict[str, Any], faults: Faults, pace: float) -> dict[str, str]:
    """Performance as the pace implies it; seconds as decimal strings (WIRE 1.8)."""
    per_token = 1 / pace if pace else 0.0
    whole = faults.slow_first_token + per_token * counts["completion_tokens"]
    return {
        "prompt-tokens": str(counts["prompt_tokens"]),
        "cached-prompt-tokens": str(counts["prompt_tokens_details"]["cached_tokens"]),
        "server-time-to-first-token": f"{faults.slow_first_token + per_token:.3f}",
        "server-processing-time": f"{whole:.3f}",
    }


def _speculation(given: ChatBody, completion: Completion) -> dict[str, str]:
    """What became of the predicted output (WIRE 1.8)."""
    found = matched(given, completion)
    names = ("speculation-prompt-tokens", "speculation-prompt-matched-tokens")
    return {} if found is None else {name: str(count) for name, count in zip(names, found, strict=True)}
