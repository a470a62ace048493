"""Act four: an answer that can only cite what exists, and a model that tries otherwise."""

import json
from importlib import resources
from typing import Any

from rich.console import Console

from api_contracts.citations import CiteResult, Source
from api_contracts.client import Client
from workers.cli.demo.checks import Checks

QUESTION = "When was the lighthouse built, and what has it burned?"
STUBBORN = "When was the lighthouse built? (asked of a model that cites what does not exist)"
"""The scene answers this one with a citation of [99]."""

_MODEL = "accounts/fireworks/models/emulated-new"


def cite_act(console: Console, client: Client, checks: Checks) -> str:
    """Play the act; return its summary."""
    sources = _sources()
    console.print(f"[bold]you[/]     {QUESTION}  [dim](from {len(sources)} sources)[/]")
    result = client.cite.complete(model=_MODEL, question=QUESTION, sources=sources, timeout_s=60)
    _show(console, result)
    _check(checks, result, sources)
    checks.act = "[99]"
    console.print(f"\n[bold]you[/]     {STUBBORN}")
    console.print(f"[dim]        it would say: {_wanted()}[/]")
    forced = client.cite.complete(model=_MODEL, question=STUBBORN, sources=sources, timeout_s=60)
    _show(console, forced)
    numbers = {number for citation in forced.citations for number in citation.numbers}
    checks.claim(
        "a model that tries to cite [99] cannot",
        forced.status == "completed" and "[99]" in _wanted() and "99" not in forced.text and bool(numbers),
        f"it cited {', '.join(f'[{n}]' for n in sorted(numbers))} of {forced.passages}",
    )
    return (
        f"cite {result.run_id}: {len(result.citations)} citations of {len(result.references)} sources, "
        f"{result.usage.prompt_tokens} + {result.usage.completion_tokens} tokens"
    )


def _show(console: Console, result: CiteResult) -> None:
    console.print("[bold]answer[/]  ", end="")
    console.print(result.text or f"{result.status}: {result.failure}", markup=False)
    for reference in result.references:
        console.print(f"        {reference.text}", style="dim", markup=False)


def _check(checks: Checks, result: CiteResult, sources: list[Source]) -> None:
    checks.act = "cite"
    numbers = {number for citation in result.citations for number in citation.numbers}
    exist = bool(numbers) and numbers <= set(range(1, result.passages + 1))
    checks.claim(
        "every citation is of a source", exist, f"{len(result.citations)} citations, all in 1..{result.passages}"
    )
    content = {source.id: source.content for source in sources}
    quotes = [v for c in result.citations for v in c.verdicts if v.tier == "verbatim"]
    verbatim = [v for v in quotes if v.verdict == "verbatim" and v.quote and v.source_id in content]
    same = all(
        result.text[v.quote.start : v.quote.end] == content[str(v.source_id)][v.source_start : v.source_end]
        for v in verbatim
        if v.quote
    )
    checks.claim(
        "its quotes are in the sources, word for word", bool(quotes) and len(verbatim) == len(quotes) and same,
        f"{len(verbatim)} of {len(quotes)} quotes",
    )  # fmt: skip
    spans = [result.text[citation.start : citation.end] for citation in result.citations]
    told = f"{result.coverage.sentences} sentences"
    checks.claim("no sentence is without a source", all(map(str.strip, spans)) and not result.uncited, told)


def _sources() -> list[Source]:
    return [Source.model_validate(item) for item in _stored("sources.json")]


def _wanted() -> str:
    rules = _stored("scene.json")["rules"]
    return next(str(rule["reply"]["text"]) for rule in rules if "[99]" in str(rule["reply"].get("text")))


def _stored(name: str) -> Any:
    return json.loads((resources.files("workers.cli.demo") / name).read_text(encoding="utf-8"))
