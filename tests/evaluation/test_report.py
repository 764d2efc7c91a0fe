"""The text of an evaluation."""

from types import SimpleNamespace

import pytest

from adnomaly.evaluation.metrics import Metrics
from adnomaly.evaluation.report import as_text

TRUTH = SimpleNamespace(
    events=[], attacks=[], days=14.0, grid=SimpleNamespace(names=["a"]), base_rate=0.025
)


def text(name: str, *realised: float, budget: float = 1.0) -> str:
    metrics = Metrics(0.9, 0.5, 0.4, 0.5, 0.03, 3.0, {}, 0.5, 3.0, list(realised))
    return as_text(TRUTH, {name: metrics}, budget_per_day=budget)


def test_a_detector_over_its_budget_is_told_in_words():
    said = text("adnomaly, global", 0.5, 8.22)
    assert "adnomaly, global (the same for an entity without a history), what it flags" in said
    assert said.endswith("expect up to 8.2 times as many false incidents as asked for")


@pytest.mark.parametrize("realised", [(), (0.07,), (1.5, 0.2)])
def test_within_its_budget_nothing_is_said(realised):
    assert "over its budget" not in text("adnomaly", *realised)


def test_the_budget_is_said_in_the_singular_or_plural():
    assert "for 1 false incident a day:" in text("adnomaly", 1.0)
    assert "for 0.5 false incidents a day:" in text("adnomaly", 1.0, budget=0.5)
