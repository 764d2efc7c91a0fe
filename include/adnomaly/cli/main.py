"""The command `adnomaly`: train, score and evaluate a detector on any windows; replay any clicks.

Subcommands import what they run: `--help` answers without numpy, pyarrow and Kafka.
"""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from adnomaly.errors import AdnomalyError, BadInput

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)

WindowsFile = Annotated[Path, typer.Option("--windows", help="Windows as .parquet or .csv")]
BASELINES = {"slots": "a table of 48 slots", "trailing": "the week before each window"}
"""The baselines of a card, in words."""

BundleFolder = Annotated[Path, typer.Option("--bundle", help="Folder of the sealed detector")]


@app.command()
def train(
    windows: WindowsFile,
    bundle: BundleFolder,
    spec: Annotated[
        Path | None, typer.Option(help="SPEC.toml: entity and features of data other than ours")
    ] = None,
    alerts_per_day: Annotated[
        float, typer.Option(help="Budget of false incidents a day, over all entities")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds and windows give equal bytes")] = 42,
) -> None:
    """Fit a detector on some weeks of windows."""
    from adnomaly.detector.feature_sets import IN_CONTEXT
    from adnomaly.scoring import files

    card = files.train(windows, bundle, spec=spec, alerts_per_day=alerts_per_day, seed=seed)
    training, baseline = card["training"], BASELINES[card["baseline"]]
    _say(
        f"trained on {training['rows']:,} windows of {card['entities']} entities, "
        f"{training['days']:.1f} days of {card['cadence']}, against {baseline}"
    )
    for name, thresholds in card["limits"].items():
        features, threshold = ", ".join(card["features"][name]), thresholds[IN_CONTEXT]["height"]
        _say(
            f"feature set {name}: {features}; "
            f"threshold {threshold:.2f} for {alerts_per_day:g} false incidents a day"
        )
    _say(
        f"sealed in {bundle}. Next: "
        f"adnomaly score --bundle {bundle} --windows LIVE.parquet --out SCORES.parquet"
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

    counts = files.score(bundle, windows, out, incident_file=incidents)
    _say(
        f"scored {counts['windows']:,} windows ({counts['warming_up']:,} warming up): "
        f"{counts['flagged']:,} flagged in {counts['anomaly']} incidents; "
        f"{counts['silence']} silences, {counts['platform outage']} outages of the platform"
    )
    _say(f"written to {out}. Next: adnomaly eval --scores {out} --labels LABELS.parquet")


@app.command("eval")
def evaluate(
    scores: Annotated[Path, typer.Option(help="Output of adnomaly score")],
    labels: Annotated[
        Path,
        typer.Option(
            help="Events (start, end, entity, kind, benign), or windows (window_end, entity, label)"
        ),
    ],
    report: Annotated[Path | None, typer.Option(help="Folder for figures.json and plots")] = None,
    alerts_per_day: Annotated[
        float, typer.Option(help="The budget that the detector was trained for")
    ] = 1.0,
) -> None:
    """Evaluate scores against labels, with reference detectors."""
    from adnomaly.evaluation import score_file

    _say(score_file.evaluate(scores, labels, folder=report, alerts_per_day=alerts_per_day))


@app.command()
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Click logs, ordered by time: .csv, .tsv, .jsonl or .parquet, also .gz"
        ),
    ],
    map_file: Annotated[
        Path, typer.Option("--map", help="MAP.toml: how a row gives each field of a click")
    ],
    speed: Annotated[
        str, typer.Option(help="max, or a multiple of the pace of the log such as 1x or 60x")
    ] = "max",
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now", help="Shift the log in time so that it ends (at a pace: begins) now"
        ),
    ] = False,
    topic: Annotated[
        str, typer.Option(help="Kafka topic; validate_clicks reads the default")
    ] = "clickstream",
) -> None:
    """Send a click log through the pipeline: validation, table, lake, windows, alerts."""
    from adnomaly.replay import command

    command.replay(files, map_file, speed=speed, to_now=shift_to_now, topic=topic, say=_say)


decisions = typer.Typer(
    no_args_is_help=True, help="Decisions of analysts about incidents, as data."
)
app.add_typer(decisions, name="decisions")


@decisions.callback()
def _decisions() -> None:
    """Keep `export` a subcommand."""


@decisions.command()
def export(
    out: Annotated[Path, typer.Argument(help="A .parquet file, which is replaced")],
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Only current verdicts, as events for adnomaly eval --labels"
        ),
    ] = False,
) -> None:
    """Export every decision with its incident, for training and for credit claims."""
    import pyarrow.parquet as pq

    from adnomaly.files import replacing
    from adnomaly.stores.decision_table import decision_table
    from adnomaly.wiring import connect

    if out.suffix != ".parquet" or not out.parent.is_dir():
        raise BadInput(f"OUT: is {out}; name a .parquet file in a folder that exists")
    table = decision_table(connect().postgres, labels=labels)
    with replacing(out) as draft:
        pq.write_table(table, draft)
    _say(f"{table.num_rows:,} {'verdicts' if labels else 'decisions'} in {out}")


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Run the command; an input error is one line on stderr and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.Formatter.converter = time.gmtime
    try:
        app()
    except AdnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
