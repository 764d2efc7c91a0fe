"""`python -m stack <command>`: what the Makefile calls."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from adnomaly.cli import features, model
from adnomaly.errors import AdnomalyError
from adnomaly.home import Home
from adnomaly.settings import ROOT, home_path, load_settings
from stack import lifecycle
from stack import secrets as secrets_file
from stack.docs import reference
from stack.launch import run as run_program
from stack.progress import Progress
from stack.servers.airflow import live_env, prepare_test_home
from stack.servers.base import common_env
from stack.servers.kafka import prepare_topics
from stack.shell import shell

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False
)
app.add_typer(features.app, name="features")
app.add_typer(model.app, name="model")


@app.command()
def up(
    names: Annotated[
        list[str] | None, typer.Argument(help="Servers to start with their needs; default all.")
    ] = None,
) -> None:
    """Start the servers, and the streams that ran before."""
    lifecycle.up(load_settings(), Progress(), names or ())


@app.command()
def down() -> None:
    """Stop everything; the data stays."""
    lifecycle.down(load_settings(), Progress())


@app.command()
def reset(yes: bool = False) -> None:
    """Erase all data, after asking."""
    settings = load_settings()
    question = f"Erase all data in {settings.adnomaly_home}? Type yes: "
    if not yes and input(question).strip() != "yes":
        sys.exit("nothing was erased")
    lifecycle.reset(settings, Progress())


@app.command()
def backup(to: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Copy all data into one tar file; the stack pauses meanwhile."""
    # Imported here, as below: every program starts through this module.
    from stack import backup as data

    data.backup(load_settings(), Progress(), to)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="File of `backup`.")], yes: bool = False
) -> None:
    """Unpack a backup; --yes erases the data that is there."""
    from stack import backup as data

    data.restore(load_settings(), Progress(), source, replace=yes)


@app.command()
def status() -> None:
    """One line per program."""
    rows = lifecycle.status(load_settings())
    for name, state, detail in rows:
        print(f"{name:16} {state:10} {detail}")
    sys.exit(0 if any(state == "RUNNING" for _, state, _ in rows) else 3)


@app.command()
def logs(program: str = "", lines: int = 200) -> None:
    """Follow the logs of one program or of all."""
    home = Home.of(load_settings())
    files = [home.log(program)] if program else sorted(home.logs.glob("*.log"))
    os.execvp("tail", ["tail", "-n", str(lines if program else 5), "-F", *map(str, files)])


@app.command()
def env() -> None:
    """Shell lines for `eval`; diagnostics go to standard error."""
    settings = load_settings()
    prepare_test_home(settings)
    for name, value in shell(settings).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def airflow(context: typer.Context) -> None:
    """The live Airflow's command line."""
    settings = load_settings()
    environ = os.environ | common_env(settings) | live_env(settings)
    command = ["airflow", *context.args]
    sys.exit(subprocess.run(command, env=environ, cwd=ROOT, check=False).returncode)


@app.command("reference")
def write_reference() -> None:
    """Write the pages and tables that are derived from code."""
    reference.write()


@app.command()
def screenshots() -> None:
    """Take the README's screenshots of the running stack."""
    from stack.docs.screenshots import take

    for file in take(load_settings()):
        print(file)


@app.command(hidden=True)
def run(program: str) -> None:
    """Become one program; supervisord calls this."""
    run_program(load_settings(), program)


@app.command()
def secrets() -> None:
    """Generate missing secrets."""
    secrets_file.ensure(Home(home_path()))


@app.command()
def topics() -> None:
    """Create missing topics."""
    prepare_topics(load_settings())


@app.command()
def demo() -> None:
    """The main job, through Airflow, on the running stack."""
    from stack.demo import story

    story.main()


def main() -> None:
    try:
        app()
    except (
        AdnomalyError,
        lifecycle.PortTaken,
        lifecycle.UnknownServer,
        RuntimeError,
        FileNotFoundError,
    ) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
