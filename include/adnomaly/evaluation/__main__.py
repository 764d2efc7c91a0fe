"""`make eval` and `make eval-real`: print metrics side by side; save them with plots."""

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from adnomaly.errors import AdnomalyError, BadInput
from adnomaly.files import write_atomic
from adnomaly.settings import load_settings

if TYPE_CHECKING:
    from adnomaly.synthetic.traffic import Traffic

# Subcommands import what they compute with: `--help` answers without scikit-learn and pandas.

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)

VARIANTS: Final = 93
"""Variants of the detector tried on development seeds before this one was chosen.

The test seeds were read once.
"""


def _say(text: str) -> None:
    print(text, flush=True)


@app.command("worlds")
def scenarios(
    seeds: Annotated[str, typer.Option(help="test, development, or numbers such as 7,8")] = "test",
    scenario: Annotated[str, typer.Option(help="plain, hard or both")] = "both",
    report: Annotated[Path, typer.Option(help="Folder for metrics and plots")] = Path("report"),
) -> None:
    """Benchmark the detector on synthetic scenarios, against reference detectors."""
    from adnomaly.synthetic.traffic import Traffic

    numbers = _seeds(seeds)
    if scenario not in ("plain", "hard", "both"):
        raise BadInput(f"--scenario is {scenario!r}; write plain, hard or both")
    traffic = Traffic.from_settings(load_settings())
    metrics: dict[str, Any] = {}
    for name, variant in {"plain": traffic.plain(), "hard": traffic.hard()}.items():
        if scenario in (name, "both"):
            metrics |= _benchmark(name, variant, numbers, report / name)
    write_atomic(report / "worlds.json", msgspec.json.encode(metrics))
    _say(
        f"\n{VARIANTS} variants were tried on development seeds. "
        f"Metrics in {report / 'worlds.json'}"
    )


def _seeds(text: str) -> tuple[int, ...]:
    from adnomaly.evaluation.scenarios import DEVELOPMENT_SEEDS, TEST_SEEDS

    named = {"test": TEST_SEEDS, "development": DEVELOPMENT_SEEDS}
    try:
        return named[text] if text in named else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(
            f"--seeds is {text!r}; write test, development, or numbers such as 7,8"
        ) from None


def _benchmark(
    name: str, traffic: "Traffic", seeds: Sequence[int], folder: Path
) -> Mapping[str, Any]:
    """Benchmark one scenario and save the plots of its last seed; returns metrics by title."""
    from adnomaly.evaluation import benchmark
    from adnomaly.evaluation.backtest import OURS
    from adnomaly.evaluation.report import save

    began = time.monotonic()
    _say(
        f"\n{name} scenario, seeds {', '.join(map(str, seeds))}: 28 days of history, "
        "14 labelled days, about 2 minutes a seed"
    )
    training_scenario = benchmark.build_training_scenario(traffic)
    results = [benchmark.evaluate_seed(traffic, seed, training_scenario, _say) for seed in seeds]
    last = results[-1]
    attacks = sum(len(result.scenario.truth.attacks) for result in results)
    metrics: dict[str, Any] = {}
    for feature_set in last.metrics:
        rows = [result.metrics[feature_set] for result in results]
        _say(
            f"\n{name} scenario, {feature_set}: {attacks} attacks; "
            f"chance has a PR of {results[0].scenario.truth.base_rate:.3f}\n"
            f"{benchmark.table(rows)}\n{benchmark.flags(rows)}"
        )
        metrics[f"{name} world, {feature_set}"] = msgspec.to_builtins(rows)
    last_metrics = list(last.metrics.values())[-1]
    save(folder, last.scenario.truth, last_metrics, last.scores, OURS)
    _say(f"  took {time.monotonic() - began:.0f} s; plots in {folder}")
    return metrics


@app.command()
def real(data: Annotated[Path, typer.Option(help="Folder of labelled series")]) -> None:
    """Backtest on labelled real series, against rules that are hard to beat there."""
    from adnomaly.evaluation import labelled_series
    from adnomaly.evaluation.backtest import OURS

    warnings.filterwarnings("ignore", message=".*(empty slice|Degrees of freedom).*")
    groups: dict[str, list[dict[str, labelled_series.SeriesResult]]] = {}
    for series in labelled_series.read_all(data):
        result = labelled_series.evaluate_series(series)
        if result is None:
            continue
        ours = result[OURS]
        _say(f"  {series.name:<48} PR {ours.pr_auc:.2f}, {ours.caught} of {ours.events} events")
        groups.setdefault(series.group, []).append(result)
    _say("\n" + labelled_series.table(groups))


@app.command()
def example(
    folder: Annotated[
        Path, typer.Argument(help="Where history.parquet, live.parquet and labels.parquet go")
    ],
) -> None:
    """Write windows for `adnomaly train`, `score` and `eval`: 28 days of history, 14 labelled."""
    from adnomaly.evaluation.scenarios import write_example
    from adnomaly.synthetic.traffic import Traffic

    for file in write_example(Traffic.from_settings(load_settings()).hard(), folder):
        _say(str(file))


def main() -> None:
    """Run the command; an input error is one line on stderr and exit code 2."""
    try:
        app()
    except AdnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
