"""Three pictures of an evaluation: ROC, precision against recall, and the score over time with the attacks marked."""

import io
from collections.abc import Mapping
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from adnomaly.model.curves import Curve
from adnomaly.model.evaluate import Trial

matplotlib.use("agg")

DAYS_SHOWN: Final = 2
PIXELS: Final = 110
MOST_POINTS: Final = 2000


def draw(test: Trial, scores: Mapping[str, np.ndarray], detector: str, threshold: float) -> dict[str, bytes]:
    """PNG files by name. `scores` are those of each detector on the test's windows; the timeline shows `detector`."""
    return {
        "roc.png": _curves(test, scores, "roc"),
        "precision_recall.png": _curves(test, scores, "pr"),
        "timeline.png": _timeline(test, scores[detector], threshold),
    }


def _curves(test: Trial, scores: Mapping[str, np.ndarray], kind: str) -> bytes:
    truth = test.attack >= 0
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    for name, values in scores.items():
        curve = Curve.of(truth, values)
        x, y = (curve.false_share, curve.recall) if kind == "roc" else (curve.recall, curve.precision)
        # Evenly spaced in recall, so that the steep beginning of a ROC curve is drawn, too.
        shown = np.unique(np.searchsorted(curve.recall, np.linspace(0, 1, MOST_POINTS)).clip(max=len(x) - 1))
        axes.plot(x[shown], y[shown], label=name.replace("_", " "))
    if kind == "roc":
        axes.set(xlabel="share of normal windows flagged", ylabel="share of attack windows flagged", title="ROC")
    else:
        axes.axhline(truth.mean(), color="grey", linestyle=":", label="share of attack windows")
        axes.set(xlabel="recall (windows)", ylabel="precision", title="Precision and recall")
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    return _png(figure)


def _timeline(test: Trial, scores: np.ndarray, threshold: float) -> bytes:
    """The entities with most attacks in the first days, one row each."""
    windows = test.windows
    shown = windows.end_s < windows.end_s.min() + DAYS_SHOWN * 86400
    hit = shown & (test.attack >= 0)
    attacks = [len(np.unique(test.attack[hit & (windows.entity == e)])) for e in range(len(windows.entities))]
    busiest = np.argsort(attacks)[::-1][:4]
    figure = Figure(figsize=(11, 2 * len(busiest)))
    rows = figure.subplots(len(busiest), 1, sharex=True, squeeze=False)[:, 0]
    for axes, entity in zip(rows, busiest, strict=True):
        _entity(axes, test, scores, shown & (windows.entity == entity), threshold)
        axes.set_ylabel(windows.entities[entity].replace("|", " "))
    rows[0].set_title("Score of each window, threshold (dashed), attacks (red), promotions (green)")
    rows[-1].xaxis.set_major_formatter(ConciseDateFormatter(rows[-1].xaxis.get_major_locator()))
    return _png(figure)


def _entity(axes: Axes, test: Trial, scores: np.ndarray, rows: np.ndarray, threshold: float) -> None:
    ends = date2num(test.windows.end_s[rows].astype("datetime64[s]"))
    axes.plot(ends, scores[rows], linewidth=0.7)
    axes.axhline(threshold, color="black", linestyle="--", linewidth=0.8)
    for number in np.unique(test.event[rows]):
        if number >= 0:
            inside = ends[test.event[rows] == number]
            axes.axvspan(inside[0], inside[-1], color="green" if test.events[number].benign else "red", alpha=0.2)


def _png(figure: Figure) -> bytes:
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PIXELS)
    return out.getvalue()
