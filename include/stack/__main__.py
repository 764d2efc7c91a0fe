"""`python -m stack <command>`: what the Makefile calls."""

import os
import shlex
import subprocess
import sys

import typer

from adnomaly.cli import features, model
from adnomaly.errors import AdnomalyError
from adnomaly.home import Home
from adnomaly.settings import ROOT, load_settings
from stack import environment, lifecycle, prepare
from stack import secrets as secrets_file
from stack.docs import reference
from stack.launch import run as run_program
from stack.progress import Progress

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False
)
app.add_typer(features.app, name="features")
app.add_typer(model.app, name="model")


@app.command()
def up() -> None:
    """Bring every server up, and the streams as they were."""
    lifecycle.up(load_settings(), Progress())


@app.command()
def down() -> None:
    """Stop everything; the data stays."""
    lifecycle.down(load_settings(), Progress())


@app.command()
def reset(yes: bool = False) -> None:
    """Erase all data, after asking."""
    settings = load_settings()
    if (
        not yes
        and input(f"Erase all data in {settings.adnomaly_home}? Type yes: ").strip() != "yes"
    ):
        sys.exit("nothing was erased")
    lifecycle.reset(settings, Progress())


@app.command()
def status() -> None:
    """One line per program."""
    rows = lifecycle.status(load_settings())
    for name, state, detail in rows:
        print(f"{name:16} {state:10} {detail}")
    sys.exit(0 if any(state == "RUNNING" for _, state, _ in rows) else 3)


@app.command()
def logs(program: str = "", lines: int = 200) -> None:
    """The end of the logs, of one program or of all, and what comes next."""
    paths = Home.of(load_settings())
    files = [paths.log(program)] if program else sorted(paths.logs.glob("*.log"))
    os.execvp("tail", ["tail", "-n", str(lines if program else 5), "-F", *map(str, files)])


@app.command()
def env() -> None:
    """Shell lines for `eval`; diagnostics go to standard error."""
    settings = load_settings()
    prepare.airflow_test(settings)
    for name, value in environment.shell(settings).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def airflow(context: typer.Context) -> None:
    """The live Airflow's command line."""
    settings = load_settings()
    environ = os.environ | environment.common(settings) | environment.live_airflow(settings)
    sys.exit(
        subprocess.run(["airflow", *context.args], env=environ, cwd=ROOT, check=False).returncode
    )


@app.command("reference")
def write_reference() -> None:
    """Write the pages and tables that are derived from code."""
    reference.write()


@app.command()
def screenshots() -> None:
    """Make the README's pictures anew, from what runs."""
    from stack.docs.screenshots import take

    for file in take(load_settings()):
        print(file)


@app.command(hidden=True)
def run(program: str) -> None:
    """Become one program; supervisord calls this."""
    run_program(load_settings(), program)


@app.command()
def secrets() -> None:
    """Generate what is missing of the secrets."""
    home = ROOT / os.environ.get("ADNOMALY_HOME", ".adnomaly")
    secrets_file.ensure(Home(home))


@app.command()
def topics() -> None:
    """Create what is missing of the topics."""
    prepare.topics(load_settings())


@app.command()
def demo() -> None:
    """The main job, through Airflow, on the running stack."""
    from stack.demo import story as driver

    driver.main()


def main() -> None:
    try:
        app()
    except (AdnomalyError, lifecycle.PortTaken, RuntimeError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
