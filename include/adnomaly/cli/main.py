"""The command `adnomaly`: train, score and evaluate a detector on anyone's windows, and replay anyone's clicks."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from adnomaly.errors import AdnomalyError, BadInput

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)

WindowsFile = Annotated[Path, typer.Option("--windows", help="Windows as .parquet or .csv")]
BundleFolder = Annotated[Path, typer.Option("--bundle", help="Folder of the sealed detector")]


@app.command()
def train(
    windows: WindowsFile,
    bundle: BundleFolder,
    spec: Annotated[
        Path | None, typer.Option(help="SPEC.toml: entity and features of other data than ours")
    ] = None,
    alerts_per_day: Annotated[
        float, typer.Option(help="Budget of false incidents a day, over all entities")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds and windows give equal bytes")] = 42,
) -> None:
    """Fit a detector on the windows of some weeks."""
    from adnomaly.scoring import files

    card = files.train(windows, bundle, spec=spec, alerts_per_day=alerts_per_day, seed=seed)
    _say(
        f"trained on {card['training']['rows']:,} windows of {card['entities']} entities, {card['training']['days']:.1f} days of {card['cadence']}, "
        f"against {'a table of 48 slots' if card['baseline'] == 'slots' else 'the week before each window'}"
    )
    for name, limit in card["limits"].items():
        _say(
            f"view {name}: {', '.join(card['features'][name])}; limit {limit['height']:.2f} for {alerts_per_day:g} false incidents a day"
        )
    _say(
        f"sealed in {bundle}. Next: adnomaly score --bundle {bundle} --windows LIVE.parquet --out SCORES.parquet"
    )


@app.command()
def score(
    bundle: BundleFolder,
    windows: WindowsFile,
    out: Annotated[Path, typer.Option(help="Scores as .parquet or .csv, a row for each window")],
    incidents: Annotated[
        Path | None,
        typer.Option(help="Incidents too, with silences and outages, as .parquet or .csv"),
    ] = None,
) -> None:
    """Score windows with a sealed detector."""
    from adnomaly.scoring import files

    found: dict[str, Any] = files.score(bundle, windows, out, incident_file=incidents)
    _say(
        f"scored {found['windows']:,} windows ({found['warming_up']:,} warming up): {found['flagged']:,} flagged in {found['anomaly']} incidents; "
        f"{found['silence']} silences, {found['platform outage']} outages of the platform"
    )
    _say(f"written to {out}. Next: adnomaly eval --scores {out} --labels LABELS.parquet")


@app.command("eval")
def evaluate(
    scores: Annotated[Path, typer.Option(help="What adnomaly score wrote")],
    labels: Annotated[
        Path,
        typer.Option(
            help="Events (start, end, entity, kind, benign), or windows (window_end, entity, label)"
        ),
    ],
    report: Annotated[Path | None, typer.Option(help="Folder for figures and pictures")] = None,
    alerts_per_day: Annotated[
        float, typer.Option(help="The budget that the detector was trained for")
    ] = 1.0,
) -> None:
    """Judge scores by labels, beside chance and a simple rule."""
    from adnomaly.evaluation.score_file import evaluate

    _say(evaluate(scores, labels, folder=report, alerts_per_day=alerts_per_day))


@app.command()
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Click logs: .csv, .tsv, .jsonl or .parquet, .gz too, in the order of time"
        ),
    ],
    map_file: Annotated[
        Path, typer.Option("--map", help="MAP.toml: how each field of a click is made of a row")
    ],
    speed: Annotated[
        str, typer.Option(help="max, or a multiple of the log's own pace such as 1x or 60x")
    ] = "max",
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now", help="Move the whole log in time, so that it ends (or begins) now"
        ),
    ] = False,
    topic: Annotated[
        str, typer.Option(help="Where to send; the gate reads the default")
    ] = "clickstream",
) -> None:
    """Send a click log through the real path: gate, table, lake, windows, alerts."""
    from adnomaly.replay.command import replay

    replay(files, map_file, speed=speed, to_now=shift_to_now, topic=topic, say=_say)


decisions = typer.Typer(no_args_is_help=True, help="What people decided about incidents, as data.")
app.add_typer(decisions, name="decisions")


@decisions.callback()
def _decisions() -> None:
    """Keeps `export` a command of its own."""


@decisions.command()
def export(
    out: Annotated[Path, typer.Argument(help="A .parquet file, which is replaced")],
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Only the verdicts that stand, as events for adnomaly eval --labels"
        ),
    ] = False,
) -> None:
    """Every decision with its incident, for training and for credit claims."""
    import pyarrow.parquet as pq

    from adnomaly.stores.decision_table import decision_table
    from adnomaly.wiring import connect

    if out.suffix != ".parquet" or not out.parent.is_dir():
        raise BadInput(f"OUT: is {out}; name a .parquet file in a folder that exists")
    table = decision_table(connect().postgres, labels=labels)
    draft = out.with_suffix(".part")
    pq.write_table(table, draft)
    draft.replace(out)
    _say(f"{table.num_rows:,} {'verdicts' if labels else 'decisions'} in {out}")


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Run the command; what a person can mend is one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.Formatter.converter = time.gmtime
    try:
        app()
    except AdnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
