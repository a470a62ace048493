"""Every command with its options. What they do is in the modules beside this one, imported when they are used."""

from pathlib import Path
from typing import Annotated, Any

import typer

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fireworks AI behind a message queue.",
)
runs = typer.Typer(no_args_is_help=True, help="Look at runs, and steer them.")
cli.add_typer(runs, name="runs")
batch = typer.Typer(no_args_is_help=True, help="Batches of prompts.")
cli.add_typer(batch, name="batch")
contracts = typer.Typer(no_args_is_help=True, help="What producers in any language rely on.")
cli.add_typer(contracts, name="contracts")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
CallId = Annotated[str, typer.Argument(metavar="CALL_ID", help="Not needed where only one call waits.")]
_PRERECORDED = "Send the whole file, in any form, or its URL, and print its text; implied by the next three."
_TOOL = "A tool that the workers have, or a function that is called in this process; repeatable."
Reason = Annotated[str, typer.Option(help="Why; kept in the journal.")]
By = Annotated[str, typer.Option(help="Who; kept in the journal. Default: user@host of this shell.")]


@cli.command()
def up(
    procfile: Annotated[Path, typer.Option(help="The processes to start.")] = Path("Procfile"),
    grace_s: Annotated[float, typer.Option(help="Seconds from SIGTERM to SIGKILL.")] = 30.0,
) -> None:
    """Start every process of the Procfile, with embedded parts for whatever is not given; Ctrl-C stops them."""
    from workers.cli.upping import bring_up

    raise typer.Exit(bring_up(procfile, grace_s))


@cli.command()
def process(
    name: Annotated[str, typer.Argument(help="A name of the Procfile, such as chat.")],
    procfile: Annotated[Path | None, typer.Option(help="Default: the one that comes with this package.")] = None,
) -> None:
    """Become one process of the Procfile, by exec: no supervisor, no embedded parts. For containers."""
    from workers.cli.becoming import become

    raise typer.Exit(become(name, procfile))


@cli.command()
def migrate() -> None:
    """Bring the schema of FW_DATABASE_URL up to this version. Any number may do it at once."""
    from workers.cli.migrating import bring_up_schema

    raise typer.Exit(bring_up_schema())


@cli.command()
def demo(
    real: Annotated[str, typer.Option(metavar="MODEL", help="Use the real provider and FIREWORKS_API_KEY.")] = "",
) -> None:
    """Show a chat that calls a tool in another process, is killed in the middle, and finishes anyway."""
    from workers.cli.demo.story import tell

    raise typer.Exit(tell(real))


@cli.command()
def emulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8788,
    pace: Annotated[float, typer.Option(help="Tokens per second; 0 is as fast as possible.")] = 60.0,
    seed: Annotated[int, typer.Option(help="The same seed and requests give the same answers.")] = 7,
    scene: Annotated[Path | None, typer.Option(help="JSON file with a scripted dialogue.")] = None,
) -> None:
    """Serve the provider's stand-in."""
    from workers.cli.emulating import emulate

    emulate(host, port, pace, seed, scene)


@cli.command()
def flower() -> None:
    """Serve Flower for the running service; FW_FLOWER_AUTH (user:password) says who may enter."""
    from workers.cli.flowering.serving import serve

    serve()


@cli.command()
def chat(
    text: Annotated[str, typer.Argument(help="What to say to the model.")],
    model: Annotated[str, typer.Option(envvar="FW_CHAT_MODEL")] = "accounts/fireworks/models/emulated-classic",
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    tool: Annotated[list[str] | None, typer.Option(metavar="NAME|MODULE:FUNCTION", help=_TOOL)] = None,
    picture: Annotated[list[str] | None, typer.Option("--image", help="A picture's file or URL; repeatable.")] = None,
    conversation: Annotated[str, typer.Option(help="Go on with the conversation of this id, or begin it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask a model through the running service; print its answer as it comes, and tool calls as they happen."""
    from workers.cli.talking import Asked, talk

    asked = Asked(text, model, system, tools=tool or [], images=picture or [], conversation=conversation)
    raise typer.Exit(talk(asked, as_json=as_json))


@cli.command()
def transcribe(
    source: Annotated[str, typer.Argument(metavar="FILE.wav|-|URL", help="16 kHz, mono, 16 bit; - is standard input.")],
    prerecorded: Annotated[bool, typer.Option("--prerecorded", help=_PRERECORDED)] = False,
    translate: Annotated[bool, typer.Option("--translate", help="Into English; prerecorded.")] = False,
    srt: Annotated[bool, typer.Option("--srt", help="Subtitles as SubRip; prerecorded.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Subtitles as WebVTT; prerecorded.")] = False,
    language: Annotated[str, typer.Option(help="Such as en or zh-hant; without it the provider finds out.")] = "",
    prompt: Annotated[str, typer.Option(help="Words that are likely to be said.")] = "",
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="How fast to speak; 1 is real time.")] = 1.0,
    words: Annotated[bool, typer.Option("--words", help="At the end, times and probability of each word.")] = False,
    interims: Annotated[bool, typer.Option("--interims", help="Print interims also where no terminal is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Speak a sound file or a pipe through the running service, and print its words as they come."""
    from workers.cli.transcribing import Asked
    from workers.cli.transcribing import transcribe as listen

    options: dict[str, Any] = {name: value for name, value in (("language", language), ("prompt", prompt)) if value}
    if prerecorded or translate or srt or vtt:
        from workers.cli.prerecording import FileAsked, Output, transcribe_file

        output: Output = "json" if as_json else "srt" if srt else "vtt" if vtt else "text"
        raise typer.Exit(
            transcribe_file(FileAsked(source, options | ({"translate": True} if translate else {}), output))
        )
    raise typer.Exit(listen(Asked(source, options, speed, interims=interims, words=words, as_json=as_json)))


@cli.command()
def cite(
    question: Annotated[str, typer.Argument(help="What to answer.")],
    source: Annotated[list[Path], typer.Option(help="A text file to answer from; repeatable.")],
    model: Annotated[str, typer.Option(envvar="FW_CHAT_MODEL")] = "accounts/fireworks/models/emulated-classic",
    policy: Annotated[str, typer.Option(help="required: every sentence cites; auto: where the model sees fit.")] = (
        "required"
    ),
    as_json: AsJson = False,
) -> None:
    """Answer a question from files; what is cited exists, and quotes are looked up."""
    from workers.cli.citing import cite as answer

    raise typer.Exit(answer(question, model=model, sources=source, policy=policy, as_json=as_json))


@batch.command(name="submit")
def submit_batch(
    file: Annotated[str, typer.Argument(help="JSONL of rows; a path that the worker can read, or a URL.")],
    model: Annotated[str, typer.Option(envvar="FW_CHAT_MODEL")] = "accounts/fireworks/models/emulated-classic",
    system: Annotated[str, typer.Option(help="System prompt of rows that have none.")] = "",
    run_id: Annotated[str, typer.Option(help="The same id is the same run, however often it is submitted.")] = "",
) -> None:
    """Submit a file of rows; print the run's id."""
    from workers.cli.batching import submit

    raise typer.Exit(submit(file, model=model, run_id=run_id or None, system_prompt=system or None))


@batch.command(name="status")
def batch_status(run_id: str, as_json: AsJson = False) -> None:
    """Show where a batch stands."""
    from workers.cli.batching import status

    raise typer.Exit(status(run_id, as_json=as_json))


@batch.command(name="watch")
def watch_batch(run_id: str) -> None:
    """Follow a batch with a progress bar until it ends."""
    from workers.cli.batching import watch

    raise typer.Exit(watch(run_id))


@batch.command(name="rows")
def batch_rows(
    run_id: str,
    state: Annotated[list[str] | None, typer.Option(help="Only succeeded, failed, quarantined or pending.")] = None,
    after: Annotated[int, typer.Option(help="Row number to begin after.")] = 0,
) -> None:
    """Print rows as JSON lines, in the order of the input."""
    from workers.cli.batching import row_states, rows

    raise typer.Exit(rows(run_id, states=row_states(state or []), after=after))


@cli.command()
def doctor(as_json: AsJson = False) -> None:
    """Check a live installation: each part, whether it is well, what to do if not. Warnings are no failure."""
    from workers.cli.checkup import examine

    raise typer.Exit(examine(as_json=as_json))


@cli.command()
def erase(
    tenant: Annotated[str, typer.Option(help="Whose runs, results and conversations to erase.")] = "",
    conversation: Annotated[str, typer.Option(help="Only this conversation, and its runs.")] = "",
    wait_s: Annotated[float, typer.Option(min=0, help="So long live runs may take to end.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Erase a tenant, or one conversation (of --tenant, or of tenant default), from Redis and SQL, for good."""
    from workers.cli.erasing import erase as take_away
    from workers.cli.erasing import whose_of
    from workers.cli.steering import operator

    whose = whose_of(tenant, conversation)
    raise typer.Exit(take_away(whose, wait_s=wait_s, by=by or operator(), agreed=yes, as_json=as_json))


@contracts.command()
def export(
    folder: Annotated[Path, typer.Option(help="Where to write; made if need be.")] = Path("docs/contracts"),
) -> None:
    """Write AsyncAPI 3 of queues and streams, and a JSON Schema of every value."""
    from workers.cli.publishing import export as write

    raise typer.Exit(write(folder))


@runs.command(name="list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="queued, running, parked, completed, failed ...")] = None,
    kind: Annotated[str, typer.Option(help="chat, stt, stt_file, batch or cite.")] = "",
    lane: Annotated[str, typer.Option(help="interactive or background; of live runs.")] = "",
    tenant: Annotated[str, typer.Option(help="Only this tenant's.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="name=value; repeatable, all must fit.")] = None,
    since: Annotated[str, typer.Option(help="90s, 30m, 2h, 7d ago, or an ISO time (UTC).")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many live runs, and so many that ended.")] = 50,
    look_at: Annotated[int, typer.Option(min=1, max=1_000_000, help="Look at no more live runs than this.")] = 10_000,
    as_json: AsJson = False,
) -> None:
    """List live runs (from Redis) and those that ended (from SQL); both are read in bounded pages."""
    from workers.cli.listing import list_runs, wanted_of

    wanted = wanted_of(status or [], kind, lane, tenant, label or [], since)
    raise typer.Exit(list_runs(wanted, limit=limit, look_at=look_at, as_json=as_json))


@runs.command()
def show(run_id: str, as_json: AsJson = False) -> None:
    """Show what a run came to; of one that lives, how it stands and what it waits for."""
    from workers.cli.inspecting import show_run

    raise typer.Exit(show_run(run_id, as_json=as_json))


@runs.command()
def events(
    run_id: str, after: Annotated[int, typer.Option(help="Last seq already seen.")] = 0, as_json: AsJson = False
) -> None:
    """Print a run's journal as it stands."""
    from workers.cli.inspecting import list_events

    raise typer.Exit(list_events(run_id, after, as_json=as_json))


@runs.command()
def follow(
    run_id: str, after: Annotated[int, typer.Option(help="Last seq already seen.")] = 0, as_json: AsJson = False
) -> None:
    """Print a run's journal and what is added to it, until the run ends."""
    from workers.cli.inspecting import follow_run

    raise typer.Exit(follow_run(run_id, after, as_json=as_json))


@runs.command()
def retry(run_id: str, reason: Reason = "", by: By = "", as_json: AsJson = False) -> None:
    """Reopen a run that failed or was cancelled, from its last committed step; have one that waits go on now."""
    from workers.cli.steering import operator, retry_run

    raise typer.Exit(retry_run(run_id, reason, by or operator(), as_json=as_json))


@runs.command()
def cancel(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID...")],
    reason: Reason = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Ask runs to end, wherever they are."""
    from workers.cli.steering import cancel_runs, operator

    raise typer.Exit(cancel_runs(run_ids, reason, by or operator(), as_json=as_json))


@runs.command()
def approve(run_id: str, call_id: CallId = "", reason: Reason = "", by: By = "", as_json: AsJson = False) -> None:
    """Let a tool call be made that waits for approval."""
    from workers.cli.steering import judge_call, operator

    raise typer.Exit(judge_call("approve", run_id, call_id, reason, by or operator(), as_json=as_json))


@runs.command()
def reject(run_id: str, call_id: CallId = "", reason: Reason = "", by: By = "", as_json: AsJson = False) -> None:
    """Have a tool call not be made that waits for approval; the model is told the reason."""
    from workers.cli.steering import judge_call, operator

    raise typer.Exit(judge_call("reject", run_id, call_id, reason, by or operator(), as_json=as_json))


@runs.command()
def signal(
    run_id: str,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="cancel, interrupt, tool_result, approve, reject ...")],
    data: Annotated[str, typer.Option(help="A JSON object, or - for standard input.")] = "",
    reason: Reason = "",
    by: By = "",
    signal_id: Annotated[str, typer.Option("--id", help="The same id twice is one signal.")] = "",
    as_json: AsJson = False,
) -> None:
    """Send a run a signal; of tool_result the token is looked up. The run's journal says what came of it."""
    from workers.cli.steering import operator, signal_run

    raise typer.Exit(signal_run(run_id, kind, data, reason, by or operator(), signal_id, as_json=as_json))
