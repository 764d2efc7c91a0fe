"""`python -m stack features ...`: the feature store from the command line."""

import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from adnomaly.monitoring import feature_parity
from adnomaly.pipelines import backfill_features, compare_windows
from adnomaly.wiring import Backends, connect

app = typer.Typer(no_args_is_help=True, help=__doc__)

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
Moment = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M"], help="UTC; ignore windows that end later"
    ),
]


@app.command()
def apply() -> None:
    """Apply the feature definitions to the registry."""
    _backends().online_features.apply()
    print("feature definitions applied")


@app.command()
def backfill(first: Day = None, last: Day = None, until: Moment = None) -> None:
    """Compute the windows of UTC days from the lake; the default is yesterday."""
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    until = until.replace(tzinfo=UTC) if until else None
    span = backfill_features.span_of(
        (first or last or yesterday).date(), (last or yesterday).date(), now=now, until=until
    )
    backends = _backends()
    for day, sha256 in backfill_features.run(
        backends.lake_batch, backends.offline_features, backends.online_features, span
    ).items():
        print(f"{day}  sha256 {sha256}")


@app.command()
def check() -> None:
    """Compare online features with offline ones and with the stream; exit 1 when they differ."""
    backends = _backends()
    checks = feature_parity.run(
        backends.online_features,
        backends.offline_features,
        backends.window_store,
        now=datetime.now(UTC),
    )
    print(feature_parity.as_text(checks))
    if not checks:
        sys.exit(
            "nothing to compare: no windows yet. Run `make feast-backfill`, or start the stream"
        )
    sys.exit(not all(check.ok for check in checks))


@app.command()
def compare(day: Day = None) -> None:
    """Compare the stream of a UTC day with the batch; the default is yesterday.

    Exits 1 and lists the windows that differ, or says why nothing was compared.
    """
    backends = _backends()
    compared = (day or datetime.now(UTC) - timedelta(days=1)).date()
    print(
        compare_windows.run(
            compared,
            backends.window_store,
            backends.offline_features,
            backends.lake,
            backends.comparisons,
            now=datetime.now(UTC),
        )
    )


def _backends() -> Backends:
    """The backends of this stack; progress is logged to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return connect()
