"""`cite`: a question answered from files, every citation one of them."""

import sys
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from api_contracts.chat import ChatDelta, ChatReplaced
from api_contracts.citations import CiteRequest, CiteResult, Source
from api_contracts.vocabulary import typed
from workers.cli.connecting import client
from workers.errors import Misconfigured


def cite(question: str, *, model: str, sources: list[Path], policy: str, as_json: bool) -> int:
    """Return 0 for a completed run, 1 otherwise. The answer and its references go to standard output."""
    console = Console(stderr=True, highlight=False)
    with client() as service:
        try:
            request = CiteRequest.model_validate(
                {"model": model, "question": question, "sources": _read(sources), "policy": policy}
            )
            run_id = service.cite.submit(request)
        except ValidationError as exc:
            raise Misconfigured(str(exc)) from None
        for event in service.follow(run_id):
            if as_json:
                print(event.model_dump_json(), flush=True)  # noqa: T201 - the command's output
                continue
            match typed(event):
                case ChatDelta(text=text):
                    sys.stdout.write(text)
                    sys.stdout.flush()
                case ChatReplaced(reason=reason):
                    console.print(f"\n{reason}; asking again", style="dim", markup=False)
                case _:
                    pass
        result = service.cite.result(run_id)
    if not as_json:
        _conclude(console, result)
    return 0 if result.status == "completed" else 1


def _read(paths: list[Path]) -> list[Source]:
    sources = []
    for path in paths:
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise Misconfigured(f"{path} cannot be read as text: {exc}") from None
        sources.append(Source(id=path.name[:128], content=content, metadata={"type": "document", "title": path.stem}))
    return sources


def _conclude(console: Console, result: CiteResult) -> None:
    print()  # noqa: T201
    for reference in result.references:
        print(reference.text)  # noqa: T201
    if result.failure:
        console.print(f"{result.status}: {result.failure.code}: {result.failure.message}", style="red", markup=False)
    quotes = [verdict for citation in result.citations for verdict in citation.verdicts if verdict.tier == "verbatim"]
    verbatim = sum(verdict.verdict == "verbatim" for verdict in quotes)
    console.print(
        f"run {result.run_id}: {result.status}, {len(result.citations)} citations of {len(result.references)} sources, "
        f"{verbatim} of {len(quotes)} quotes verbatim, {len(result.uncited)} sentences uncited",
        style="dim", markup=False,
    )  # fmt: skip
