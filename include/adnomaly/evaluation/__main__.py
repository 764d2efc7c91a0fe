"""`make eval` and `make eval-real`: prints figures side by side, and keeps them with pictures in a folder."""

import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from adnomaly.errors import AdnomalyError
from adnomaly.settings import load_settings

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)

VARIANTS: int = 93
"""Variants of the detector that were tried on development data before this one was kept; the test seeds were read once."""


def _say(text: str) -> None:
    print(text, flush=True)


@app.command()
def scenarios(
    seeds: Annotated[str, typer.Option(help="test, development, or numbers such as 7,8")] = "test",
    scenario: Annotated[str, typer.Option(help="plain, hard or both")] = "both",
    report: Annotated[Path, typer.Option(help="Folder for figures and pictures")] = Path("report"),
) -> None:
    """The library of attacks on worlds of our own making, beside every rival."""
    from adnomaly.evaluation import benchmark as bench
    from adnomaly.evaluation import report as paper
    from adnomaly.evaluation.scenarios import DEVELOPMENT_SEEDS, TEST_SEEDS
    from adnomaly.synthetic.traffic import Traffic

    known = {"test": TEST_SEEDS, "development": DEVELOPMENT_SEEDS}
    numbers = known[seeds] if seeds in known else tuple(int(part) for part in seeds.split(","))
    traffic = Traffic.from_settings(load_settings())
    everything: dict[str, object] = {}
    for name, own in {"plain": traffic.plain(), "hard": traffic.hard()}.items():
        if scenario not in (name, "both"):
            continue
        began = time.monotonic()
        _say(
            f"\n{name} world, seeds {', '.join(map(str, numbers))}: 28 days of history, 14 days judged, about 2 minutes a seed"
        )
        training_scenario = bench.build_training_scenario(own)
        judged = [bench.judge_seed(own, seed, training_scenario, _say) for seed in numbers]
        for feature_set in judged[0][1]:
            rows = [found[feature_set] for _, found, _ in judged]
            attacks = sum(len(w.truth.attacks) for w, _, _ in judged)
            _say(
                f"\n{name} world, {feature_set}: {attacks} attacks; chance has a PR of {judged[0][0].truth.base_rate:.3f}\n{bench.table(rows)}\n{bench.flags(rows)}"
            )
            everything[f"{name} world, {feature_set}"] = msgspec.to_builtins(rows)
        last, found, scores = judged[-1]
        paper.keep(report / name, last.truth, list(found.values())[-1], scores, bench.OURS)
        _say(f"  took {time.monotonic() - began:.0f} s; pictures in {report / name}")
    (report / "worlds.json").write_bytes(msgspec.json.encode(everything))
    _say(
        f"\n{VARIANTS} variants were tried on development seeds. Figures in {report / 'worlds.json'}"
    )


@app.command()
def real(data: Annotated[Path, typer.Option(help="Folder of labelled series")]) -> None:
    """Labelled real series, beside the rules that are hard to beat there."""
    from adnomaly.evaluation import labelled_series as series

    warnings.filterwarnings("ignore", message=".*(empty slice|Degrees of freedom).*")
    found: dict[str, list[dict[str, series.SeriesResult]]] = {}
    for one in series.read_all(data):
        result = series.evaluate_series(one)
        if result is None:
            continue
        ours = result[series.OURS]
        _say(f"  {one.name:<48} PR {ours.pr_auc:.2f}, {ours.caught} of {ours.events} events")
        found.setdefault(one.group, []).append(result)
    _say("\n" + series.table(found))


@app.command()
def example(
    folder: Annotated[
        Path, typer.Argument(help="Where history.parquet, live.parquet and labels.parquet go")
    ],
) -> None:
    """Windows to try `adnomaly train`, `score` and `eval` on: 28 days of history, 14 days with labelled attacks."""
    from adnomaly.evaluation.scenarios import write_example
    from adnomaly.synthetic.traffic import Traffic

    for file in write_example(Traffic.from_settings(load_settings()).hard(), folder):
        _say(str(file))


def main() -> None:
    try:
        app()
    except AdnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
