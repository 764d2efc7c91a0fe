"""The equations balance exactly when every click is stored somewhere or on its way."""

import pytest

from adnomaly.monitoring.reconciliation import CLICK_SINKS, ClickCounts, SinkCount, equations
from adnomaly.stores.stream_health import _is_missing, _LateClick

HEALTHY = ClickCounts(
    received=110,
    valid=100,
    rejected=4,
    duplicate=3,
    sinks={"table": SinkCount(98, 4), "lake": SinkCount(40, 61)},
    windowed=70,
    late=1,
    early=5,
    validation_lag=3,
    open=26,
)


def sink(stage: str, clicks: int) -> dict[str, object]:
    """A change of the clicks that a sink has stored."""
    return {"sinks": {**HEALTHY.sinks, stage: HEALTHY.sinks[stage]._replace(clicks=clicks)}}


def test_a_healthy_stream_balances():
    assert [(line.difference, line.balanced) for line in equations(HEALTHY)] == [
        (3, True),
        (2, True),
        (60, True),
        (24, True),
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"received": 111}, 0),
        (sink("table", 95), 1),
        (sink("table", 101), 1),
        (sink("lake", 38), 2),
        ({"windowed": 60}, 3),
        ({"windowed": 96}, 3),
    ],
)
def test_a_lost_or_doubled_click_shows(changed, line):
    assert [
        i
        for i, equation in enumerate(equations(HEALTHY._replace(**changed)))
        if not equation.balanced
    ] == [line]


def test_every_sink_of_valid_clicks_has_an_equation():
    assert [list(e.parts) for e in equations(HEALTHY)][1:-1] == [
        [sink.counted] for sink in CLICK_SINKS
    ]
    assert [sink.counted for sink in CLICK_SINKS] == ["stored", "archived"]


@pytest.mark.parametrize(
    ("moment", "missed", "missing"),
    [
        (
            "2026-11-24T12:04:30.000000Z",
            1,
            True,
        ),  # its first window to end is the one that ends at 12:05
        ("2026-11-24T12:00:30.000000Z", 1, False),  # missed the one to 12:01; that to 12:05 has it
        ("2026-11-24T12:00:30.000000Z", 4, False),
        ("2026-11-24T12:00:30.000000Z", 5, True),
        ("2026-11-24T12:05:00.000000Z", 4, False),
        ("2026-11-24T12:05:00.000000Z", 5, True),
    ],
)
def test_a_late_click_is_missing_if_it_missed_its_disjoint_window(moment, missed, missing):
    assert _is_missing(_LateClick(timestamp=moment, missed_windows=missed)) is missing
