"""What a request may ask to be told beside the answer (WIRE 1.5): logprobs in both forms, token ids, raw output. Pure.

No model stands behind them: ids and probabilities derive from the text of a token, so they are the same wherever it
stands. The first alternative of a token is the token itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from zlib import crc32

from workers.emulator.completion import Completion, Piece
from workers.emulator.schema import ChatBody
from workers.emulator.tokens import pieces

Json: TypeAlias = dict[str, Any]

_VOCABULARY = 128_000
_TEMPLATE = 0
"""The id of every token that the chat template adds around the texts."""


@dataclass(frozen=True)
class Told:
    """What one request asked for. `alternatives` of each token; `legacy` is the older form of logprobs."""

    logprobs: bool = False
    legacy: bool = False
    alternatives: int = 0
    token_ids: bool = False
    raw_output: bool = False
    grammar: str | None = None
    service_tier: str | None = None
    prompt: str = ""
    prompt_tokens: int = 0

    @classmethod
    def asked(cls, body: ChatBody, prompt_tokens: int) -> "Told":
        """What this request asked for."""
        legacy = isinstance(body.logprobs, int) and not isinstance(body.logprobs, bool)
        return cls(
            logprobs=legacy or body.logprobs is True,
            legacy=legacy,
            alternatives=(int(body.logprobs or 0) if legacy else body.top_logprobs) or 0,
            token_ids=bool(body.return_token_ids),
            raw_output=bool(body.raw_output),
            grammar=body.response_format.grammar if body.response_format else None,
            service_tier=tier_of(body.service_tier),
            prompt=prompt_of(body),
            prompt_tokens=prompt_tokens,
        )

    @property
    def prompt_ids(self) -> list[int]:
        """As many as the usage counts: the template's tokens come first here."""
        ids = [token_id(token) for token in pieces(self.prompt)]
        missing = self.prompt_tokens - len(ids)
        return [_TEMPLATE] * missing + ids if missing > 0 else ids[-self.prompt_tokens :]

    def of_run(self, run: Sequence[Piece], offset: int) -> Json:
        """What a choice says beside these tokens; `offset` is the length of the text before them."""
        said: Json = {}
        texts = [piece.text for piece in run if piece.kind == "content"]
        if self.logprobs and texts:
            said["logprobs"] = self._legacy(texts, offset) if self.legacy else self._new(texts, offset)
        if self.token_ids and run:
            said["token_ids"] = [token_id(piece.text) for piece in run]
        return said

    def at_opening(self) -> Json:
        """What the first chunk of a choice says (WIRE 1.6)."""
        return {"prompt_token_ids": self.prompt_ids} if self.token_ids else {}

    def at_finish(self, completion: Completion) -> Json:
        """What the last chunk of a choice says."""
        if not self.raw_output:
            return {}
        raw = {
            "prompt_fragments": [self.prompt],
            "prompt_token_ids": self.prompt_ids,
            "completion": "".join(piece.text for piece in completion.pieces),
            "completion_token_ids": [token_id(piece.text) for piece in completion.pieces],
        }
        return {"raw_output": raw if self.grammar is None else raw | {"grammar": self.grammar}}

    def _new(self, texts: Sequence[str], offset: int) -> Json:
        content = []
        for text in texts:
            entry = {
                "token": text, "logprob": logprob(text), "sampling_logprob": logprob(text), "bytes": list(_bytes(text)),
                "token_id": token_id(text), "text_offset": offset,
                "top_logprobs": [
                    {"token": other, "logprob": value, "token_id": token_id(other), "bytes": list(_bytes(other))}
                    for other, value in self._alternatives(text)
                ],
            }  # fmt: skip
            content.append(entry)
            offset += len(text)
        return {"content": content}

    def _legacy(self, texts: Sequence[str], offset: int) -> Json:
        offsets = [offset + sum(map(len, texts[:place])) for place in range(len(texts))]
        return {
            "tokens": list(texts),
            "token_logprobs": [logprob(text) for text in texts],
            "top_logprobs": [dict(self._alternatives(text)) for text in texts],
            "text_offset": offsets,
            "token_ids": [token_id(text) for text in texts],
        }

    def _alternatives(self, text: str) -> list[tuple[str, float]]:
        others = [(f"{text}{'~' * place}", logprob(text) - place) for place in range(self.alternatives)]
        return others[: self.alternatives]


def token_id(text: str) -> int:
    """The id of a token; no two runs differ, two tokens may share one."""
    return 1 + crc32(_bytes(text)) % (_VOCABULARY - 1)


def logprob(text: str) -> float:
    """From -1 to 0."""
    return -(crc32(b"p" + _bytes(text)) % 1000) / 1000


def tier_of(asked: str | None) -> str | None:
    """Only `priority` has an effect (WIRE 1.2)."""
    return None if asked is None else "priority" if asked == "priority" else "default"


def prompt_of(body: ChatBody) -> str:
    """The texts of the prompt."""
    return "\n".join(message.text for message in body.messages)


def echo_of(body: ChatBody) -> str:
    """What of the prompt comes before the answer: all of it, or its last tokens (WIRE 1.2)."""
    if body.echo_last is not None:
        tokens = pieces(prompt_of(body))
        return "".join(tokens[len(tokens) - body.echo_last :] if body.echo_last < len(tokens) else tokens)
    return prompt_of(body) if body.echo else ""


def matched(body: ChatBody, completion: Completion) -> tuple[int, int] | None:
    """How many tokens were predicted, and how many of them came from the start; None without a prediction."""
    given = body.speculation
    if given is None and body.prediction is not None:
        given = body.prediction if isinstance(body.prediction, str) else body.prediction.content
    if given is None:
        return None
    predicted = [token_id(text) for text in pieces(given)] if isinstance(given, str) else given
    said = [token_id(piece.text) for piece in completion.pieces if piece.kind == "content"]
    same = next((n for n, (one, other) in enumerate(zip(predicted, said, strict=False)) if one != other), None)
    return len(predicted), min(len(predicted), len(said)) if same is None else same


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
