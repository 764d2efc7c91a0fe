"""Pictures of an evaluation: ROC, precision against recall, recall by kind and strength, the score over time."""

import io
from collections.abc import Mapping
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from adnomaly.evaluation.curves import Curve
from adnomaly.evaluation.metrics import GroundTruth, Metrics

matplotlib.use("agg")

HOURS_SHOWN: Final = 48
PIXELS: Final = 110
MAX_POINTS: Final = 2000
ENTITIES_SHOWN: Final = 4


def draw(
    truth: GroundTruth, scores: Mapping[str, np.ndarray], figures: Metrics, best: str
) -> dict[str, bytes]:
    """PNG files by name; `scores` (T, E) of each detector, and `figures` of the best of them, whose score is drawn over time."""
    pictures = {
        "roc.png": _curves(truth, scores, "roc"),
        "precision_recall.png": _curves(truth, scores, "pr"),
    }
    if figures.recall_by_kind:
        pictures["recall_by_kind.png"] = _kinds(truth, scores[best], figures)
    return pictures | {"timeline.png": _timeline(truth, scores[best])}


def _curves(truth: GroundTruth, scores: Mapping[str, np.ndarray], kind: str) -> bytes:
    attacked = truth.attack[truth.present] >= 0
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    for name, values in scores.items():
        curve = Curve.of(attacked, np.nan_to_num(values[truth.present], nan=-1e9))
        x, y = (
            (curve.false_share, curve.recall) if kind == "roc" else (curve.recall, curve.precision)
        )
        # Evenly spaced in recall, so that the steep beginning of a ROC curve is drawn, too.
        shown = np.unique(
            np.searchsorted(curve.recall, np.linspace(0, 1, MAX_POINTS)).clip(max=len(x) - 1)
        )
        axes.plot(x[shown], y[shown], label=name)
    if kind == "roc":
        axes.set(
            xlabel="share of the other windows flagged",
            ylabel="share of attack windows flagged",
            title="ROC",
        )
    else:
        axes.axhline(attacked.mean(), color="grey", linestyle=":", label="chance")
        axes.set(xlabel="recall (windows)", ylabel="precision", title="Precision and recall")
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    return _png(figure)


def _kinds(truth: GroundTruth, score: np.ndarray, figures: Metrics) -> bytes:
    """Bars by kind; beside them the share caught by strength, where strengths are known."""
    strengths = np.array([truth.events[i].strength for i in truth.attacks])
    known = np.isfinite(strengths).sum() >= 20
    figure = Figure(figsize=(11 if known else 6, 4))
    bars, *rest = np.atleast_1d(figure.subplots(1, 2 if known else 1))
    bars.barh(list(figures.recall_by_kind), list(figures.recall_by_kind.values()))
    bars.set(xlim=(0, 1), xlabel="recall at one false incident a day", title="By kind")
    if known:
        filled = np.where(np.isfinite(score), score, -1e9)
        caught = truth.caught((filled >= truth.threshold(filled, truth.days)) & truth.present)
        hit = np.array([i in caught for i in truth.attacks])
        edges = np.quantile(strengths, np.linspace(0, 1, 6))
        bins = np.clip(np.searchsorted(edges, strengths, side="right") - 1, 0, 4)
        middles, attribute = zip(
            *[(strengths[bins == b].mean(), hit[bins == b].mean()) for b in np.unique(bins)],
            strict=True,
        )
        rest[0].plot(middles, attribute, marker="o")
        rest[0].set(
            ylim=(0, 1.02),
            xlabel="strength (1 is the usual size)",
            ylabel="recall",
            title="By strength",
        )
        rest[0].grid(visible=True, alpha=0.3)
    return _png(figure)


def _timeline(truth: GroundTruth, score: np.ndarray) -> bytes:
    """The entities with most events in the two days that have most of them, one row each."""
    step = truth.grid.cadence.steps(HOURS_SHOWN * 3600)
    begins = range(0, max(1, len(score) - step), step)
    first = max(begins, key=lambda b: len(np.unique(truth.event[b : b + step])))
    rows = slice(first, first + step)
    events = [len(np.unique(truth.event[rows, e])) for e in range(score.shape[1])]
    busiest = np.argsort(events)[::-1][: min(ENTITIES_SHOWN, score.shape[1])]
    figure = Figure(figsize=(11, 2 * len(busiest) + 0.5))
    parts = figure.subplots(len(busiest), 1, sharex=True, squeeze=False)[:, 0]
    for axes, entity in zip(parts, busiest, strict=True):
        _entity(axes, truth, score, rows, int(entity))
    parts[0].set_title("Score of each window, attacks red, benign events green")
    parts[-1].xaxis.set_major_formatter(ConciseDateFormatter(parts[-1].xaxis.get_major_locator()))
    return _png(figure)


def _entity(axes: Axes, truth: GroundTruth, score: np.ndarray, rows: slice, entity: int) -> None:
    ends = date2num(truth.grid.end_s[rows].astype("datetime64[s]"))
    axes.plot(ends, score[rows, entity], linewidth=0.7)
    axes.set_ylabel(truth.grid.names[entity].replace("|", " "))
    numbers = truth.event[rows, entity]
    for number in np.unique(numbers[numbers >= 0]):
        inside = ends[numbers == number]
        axes.axvspan(
            inside[0],
            inside[-1],
            color="green" if truth.events[number].benign else "red",
            alpha=0.2,
        )


def _png(figure: Figure) -> bytes:
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PIXELS)
    return out.getvalue()
