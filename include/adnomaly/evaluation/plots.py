"""Plots of an evaluation: ROC, precision-recall, recall by kind and strength, scores over time."""

import io
from collections.abc import Mapping
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from adnomaly.arrays import Floats
from adnomaly.evaluation.metrics import GroundTruth, Metrics

matplotlib.use("agg")

HOURS_SHOWN: Final = 48
PIXELS: Final = 110
MAX_POINTS: Final = 2000
ENTITIES_SHOWN: Final = 4
MIN_STRENGTHS: Final = 20
"""Attacks of known strength that the plot by strength needs."""
LOWEST: Final = -1e9
"""Stands for the score of a window without one."""


def draw(
    truth: GroundTruth, scores: Mapping[str, Floats], metrics: Metrics, best: str
) -> dict[str, bytes]:
    """PNG files by name.

    Args:
        scores: (T, E) of each detector.
        metrics: of the detector `best`, whose score is drawn over time.
    """
    plots = {
        "roc.png": _roc(truth, scores),
        "precision_recall.png": _precision_recall(truth, scores),
    }
    if metrics.recall_by_kind:
        plots["recall_by_kind.png"] = _recall_by_kind(truth, scores[best], metrics)
    return plots | {"timeline.png": _timeline(truth, scores[best])}


def _roc(truth: GroundTruth, scores: Mapping[str, Floats]) -> bytes:
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    for name, values in scores.items():
        score = np.nan_to_num(values[truth.present], nan=LOWEST)
        false_share, recall, _ = roc_curve(truth.is_attack, score)
        _line(axes, false_share, recall, recall, name)
    axes.set(
        xlabel="share of the other windows flagged",
        ylabel="share of attack windows flagged",
        title="ROC",
    )
    return _with_legend(figure, axes)


def _precision_recall(truth: GroundTruth, scores: Mapping[str, Floats]) -> bytes:
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    for name, values in scores.items():
        score = np.nan_to_num(values[truth.present], nan=LOWEST)
        precision, recall, _ = precision_recall_curve(truth.is_attack, score)
        # Without scikit-learn's last point, which no threshold has; recall ascending.
        precision, recall = precision[-2::-1], recall[-2::-1]
        _line(axes, recall, precision, recall, name)
    axes.axhline(truth.base_rate, color="grey", linestyle=":", label="chance")
    axes.set(xlabel="recall (windows)", ylabel="precision", title="Precision and recall")
    return _with_legend(figure, axes)


def _line(axes: Axes, x: Floats, y: Floats, recall: Floats, name: str) -> None:
    """Draw points evenly spaced in recall, so that the steep start of a ROC curve is kept."""
    shown = np.unique(np.searchsorted(recall, np.linspace(0, 1, MAX_POINTS)).clip(max=len(x) - 1))
    axes.plot(x[shown], y[shown], label=name)


def _with_legend(figure: Figure, axes: Axes) -> bytes:
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    return _png(figure)


def _recall_by_kind(truth: GroundTruth, score: Floats, metrics: Metrics) -> bytes:
    """Bars by kind; recall by strength next to them, where enough strengths are known."""
    strengths = np.array([truth.events[i].strength for i in truth.attacks])
    known = int(np.isfinite(strengths).sum()) >= MIN_STRENGTHS
    figure = Figure(figsize=(11 if known else 6, 4))
    bars, *rest = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    bars.barh(list(metrics.recall_by_kind), list(metrics.recall_by_kind.values()))
    bars.set(xlim=(0, 1), xlabel="recall at one false incident a day", title="By kind")
    if known:
        _recall_by_strength(rest[0], truth, score, strengths)
    return _png(figure)


def _recall_by_strength(axes: Axes, truth: GroundTruth, score: Floats, strengths: Floats) -> None:
    filled = np.where(np.isfinite(score), score, LOWEST)
    caught = truth.caught((filled >= truth.threshold(filled, truth.days)) & truth.present)
    hit = np.array([i in caught for i in truth.attacks])
    edges = np.quantile(strengths, np.linspace(0, 1, 6))
    bins = np.clip(np.searchsorted(edges, strengths, side="right") - 1, 0, 4)
    means = [(strengths[bins == b].mean(), hit[bins == b].mean()) for b in np.unique(bins)]
    axes.plot(*zip(*means, strict=True), marker="o")
    axes.set(
        ylim=(0, 1.02),
        xlabel="strength (1 is the nominal size)",
        ylabel="recall",
        title="By strength",
    )
    axes.grid(visible=True, alpha=0.3)


def _timeline(truth: GroundTruth, score: Floats) -> bytes:
    """The busiest entities of the two days with most events, one row each."""
    step = truth.grid.cadence.steps(HOURS_SHOWN * 3600)
    starts = range(0, max(1, len(score) - step), step)
    first = max(starts, key=lambda b: len(np.unique(truth.event[b : b + step])))
    rows = slice(first, first + step)
    events = [len(np.unique(truth.event[rows, e])) for e in range(score.shape[1])]
    busiest = np.argsort(events)[::-1][: min(ENTITIES_SHOWN, score.shape[1])]
    figure = Figure(figsize=(11, 2 * len(busiest) + 0.5))
    parts = figure.subplots(len(busiest), 1, sharex=True, squeeze=False)[:, 0]
    for axes, entity in zip(parts, busiest, strict=True):
        _entity_row(axes, truth, score, rows, int(entity))
    parts[0].set_title("Score of each window, attacks red, benign events green")
    axis = parts[-1].xaxis
    dates = ConciseDateFormatter(axis.get_major_locator())  # type: ignore[no-untyped-call]
    axis.set_major_formatter(dates)
    return _png(figure)


def _entity_row(axes: Axes, truth: GroundTruth, score: Floats, rows: slice, entity: int) -> None:
    moments = truth.grid.end_s[rows].astype("datetime64[s]")
    ends = date2num(moments)  # type: ignore[no-untyped-call]  # untyped in matplotlib
    axes.plot(ends, score[rows, entity], linewidth=0.7)
    axes.set_ylabel(truth.grid.names[entity].replace("|", " "))
    numbers = truth.event[rows, entity]
    for number in np.unique(numbers[numbers >= 0]):
        inside = ends[numbers == number]
        color = "green" if truth.events[number].benign else "red"
        axes.axvspan(inside[0], inside[-1], color=color, alpha=0.2)


def _png(figure: Figure) -> bytes:
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PIXELS)
    return out.getvalue()
