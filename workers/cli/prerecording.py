"""`transcribe --prerecorded`: a whole file, or its URL, as a run of its own; its text, or subtitles, at the end."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from rich.console import Console

from api_contracts.client import Client
from api_contracts.client.speaking import file_fields
from api_contracts.stt_files import SttFileResult, SttReplaced
from api_contracts.vocabulary import typed
from workers.cli.captions import printable
from workers.cli.connecting import client
from workers.cli.transcribing import EXIT
from workers.errors import Misconfigured

Output = Literal["text", "srt", "vtt", "json"]


@dataclass(frozen=True, slots=True)
class FileAsked:
    """What the command line asks for. `options` are those of the request that were given."""

    where: str
    options: dict[str, Any]
    output: Output = "text"


def transcribe_file(asked: FileAsked) -> int:
    """Return 0 for a completed run, 1 for a failed one, 130 for a cancelled one. Raises Misconfigured."""
    console = Console(stderr=True, highlight=False, emoji=False)
    fields = _fields(asked)
    with client() as service:
        try:
            run_id = service.stt.files.submit(fields)
        except ValidationError as exc:
            faults = "; ".join(each["msg"].removeprefix("Value error, ") for each in exc.errors())
            raise Misconfigured(f"{asked.where}: {faults}") from None
        try:
            _follow(service, run_id, console, as_json=asked.output == "json")
        except KeyboardInterrupt:
            service.cancel(run_id, "Ctrl-C")
        result = service.stt.files.result(run_id)
    if asked.output != "json":
        _conclude(result, asked.output, console)
    return EXIT[result.status]


def _fields(asked: FileAsked) -> dict[str, Any]:
    is_url = asked.where.startswith(("http://", "https://"))
    try:
        return file_fields(asked.where if is_url else Path(asked.where), asked.options) | asked.options
    except OSError as exc:
        raise Misconfigured(f"cannot read {asked.where}: {exc.strerror}") from None


def _follow(service: Client, run_id: str, console: Console, *, as_json: bool) -> None:
    for event in service.follow(run_id):
        if as_json:
            print(event.model_dump_json(), flush=True)  # noqa: T201 - the command's output
        elif isinstance(replaced := typed(event), SttReplaced) and replaced.retry_at is not None:
            why = printable(replaced.failure.message) if replaced.failure else replaced.reason
            console.print(f"{why}; asking again", style="dim", markup=False, soft_wrap=True)


def _conclude(result: SttFileResult, output: Output, console: Console) -> None:
    if result.status == "completed":
        text = {"text": f"{printable(result.text)}\n", "srt": result.srt or "", "vtt": result.vtt or "WEBVTT\n"}[output]
        sys.stdout.write(text)
        sys.stdout.flush()
    if result.failure:
        failure = f"{result.status}: {result.failure.code}: {printable(result.failure.message)}"
        console.print(failure, style="red", markup=False, soft_wrap=True)
    length = "" if result.duration_s is None else f", {result.duration_s:.1f} s of audio"
    console.print(f"run {result.run_id}: {result.status}{length}", style="dim", markup=False, soft_wrap=True)
