"""The ledger balances exactly when every click is somewhere or on its way."""

import pytest

from adnomaly.monitoring.reconciliation import ClickCounts, equations
from adnomaly.stores.stream_health import _is_missing, _Late

WELL = ClickCounts(
    received=110, valid=100, rejected=4, duplicate=3, stored=98, archived=40, windowed=70, late=1, early=5, gate_lag=3, table_lag=4,
    lake_lag=61, open=22,
)  # fmt: skip


def test_a_healthy_stream_balances():
    assert [(line.difference, line.balanced) for line in equations(WELL)] == [
        (3, True),
        (2, True),
        (60, True),
        (24, True),
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"received": 111}, 0),
        ({"stored": 95}, 1),
        ({"stored": 101}, 1),
        ({"archived": 38}, 2),
        ({"windowed": 60}, 3),
        ({"windowed": 96}, 3),
    ],
)
def test_a_lost_or_doubled_click_shows(changed, line):
    assert [
        i for i, found in enumerate(equations(WELL._replace(**changed))) if not found.balanced
    ] == [line]


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
def test_a_late_click_is_missing_where_it_missed_the_window_of_the_ledger(moment, missed, missing):
    assert _is_missing(_Late(timestamp=moment, missed_windows=missed)) is missing
