"""Everything about a run that follows from its request alone: passages, forms, prompts. The same for every worker."""

from functools import cached_property
from typing import Any, Final

from api_contracts.citations import CiteRequest, CiteResolved
from workers.core.citations.form import Form
from workers.core.citations.passages import Shown, block, shown
from workers.core.citations.tokens import token_estimate

_SENT_AS_THEY_ARE: Final = (
    "model", "temperature", "top_p", "top_k", "seed", "user", "prompt_cache_key", "prompt_cache_isolation_key",
    "service_tier", "reasoning_effort",
)  # fmt: skip


class Plan:
    """What a request comes to. Worked out when it is first needed."""

    def __init__(self, request: CiteRequest) -> None:
        self._request = request

    @cached_property
    def shown(self) -> Shown:
        """The passages that the model reads."""
        return shown(self._request)

    @cached_property
    def first(self) -> Form:
        """The form that is asked for first."""
        policy = self._request.policy
        if policy == "quotes_only":
            raise ValueError("policy 'quotes_only' is not built: the contract refuses it")
        return Form(policy, len(self.shown.pieces), self._request.max_sentences)

    def form(self, *, tight: bool) -> Form:
        """Return the form of the first try, or of the second."""
        return self.first.tighter() if tight else self.first

    def resolved(self) -> CiteResolved:
        """Return the event that says so."""
        pieces = self.shown.pieces
        return CiteResolved(
            passages=[(piece.place, piece.start, piece.end) for piece in pieces],
            left_out=self.shown.left_out,
            prompt_tokens=sum(token_estimate(message["content"]) for message in self.messages(self.first)),
            grammar=self.first.digest,
            grammar_bytes=len(self.first.grammar.encode()),
        )

    def messages(self, form: Form) -> list[dict[str, str]]:
        """Return the prompt. What is the same for many questions stands first, where caches look."""
        told = [form.instruction, self._request.instructions.strip()]
        passages = "\n\n".join(block(n, piece) for n, piece in enumerate(self.shown.pieces, 1))
        return [
            {"role": "system", "content": "\n\n".join(filter(None, told))},
            {"role": "user", "content": f"{passages}\n\nQuestion: {self._request.question}"},
        ]

    def body(self, form: Form) -> dict[str, Any]:
        """Return the provider's request body (WIRE 1.2, 4.1).

        A prompt that is too long is an error (the provider's own default shortens the answer, WIRE 7.5). Passages are
        not ours: what looks like a special token in them stays text.
        """
        sent = self._request.model_dump(mode="json", include=set(_SENT_AS_THEY_ARE), exclude_none=True)
        return {
            **sent,
            "messages": self.messages(form),
            "max_tokens": self._request.max_tokens or form.max_tokens,
            "response_format": {"type": "grammar", "grammar": form.grammar},
            "context_length_exceeded_behavior": "error",
            "safe_tokenization": True,
            **self._request.extra,
        }
