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
    from workers.emulator import EmulatorConfig, load_scene, run

    config = EmulatorConfig(pace=pace, seed=seed)
    run(config.model_copy(update={"scene": load_scene(scene)}) if scene else config, host, port)


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
def doctor() -> None:
    """Check a live installation: each part, whether it answers, what to do if not."""
    from workers.cli.checkup import examine

    raise typer.Exit(examine())


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
