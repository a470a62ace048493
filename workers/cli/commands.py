"""Every command with its options. What they do is in the modules beside this one, imported when they are used."""

from pathlib import Path
from typing import Annotated

import typer

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fireworks AI behind a message queue.",
)
runs = typer.Typer(no_args_is_help=True, help="Look at runs.")
cli.add_typer(runs, name="runs")
batch = typer.Typer(no_args_is_help=True, help="Batches of prompts.")
cli.add_typer(batch, name="batch")
contracts = typer.Typer(no_args_is_help=True, help="What producers in any language rely on.")
cli.add_typer(contracts, name="contracts")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


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
    tool: Annotated[list[str] | None, typer.Option(help="Name of a tool that the workers have; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model through the running service, and print its answer as it comes."""
    from workers.cli.talking import talk

    raise typer.Exit(talk(text, model=model, system=system, tools=tool or [], as_json=as_json))


@cli.command()
def transcribe(
    source: Annotated[str, typer.Argument(metavar="FILE.wav|-", help="16 kHz, mono, 16 bit; - is standard input.")],
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

    options = {name: value for name, value in (("language", language), ("prompt", prompt)) if value}
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


@contracts.command()
def export(
    folder: Annotated[Path, typer.Option(help="Where to write; made if need be.")] = Path("docs/contracts"),
) -> None:
    """Write AsyncAPI 3 of queues and streams, and a JSON Schema of every value."""
    from workers.cli.publishing import export as write

    raise typer.Exit(write(folder))


@runs.command()
def show(run_id: str, as_json: AsJson = False) -> None:
    """Show what a run is and came to."""
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
def cancel(run_id: str, reason: Annotated[str, typer.Option(help="Kept in the journal.")] = "") -> None:
    """Ask a run to end."""
    from workers.cli.inspecting import cancel_run

    raise typer.Exit(cancel_run(run_id, reason))
