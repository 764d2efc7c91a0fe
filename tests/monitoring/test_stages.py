"""State, reason and next step of each stage."""

from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.monitoring.stages import (
    Limits,
    PreviousCounts,
    ProcessState,
    Snapshot,
    evaluate_stages,
    red_stages,
)
from adnomaly.streams import STREAMS

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PROGRAMS = {stream.name: ProcessState("RUNNING", 4000) for stream in STREAMS}


def snapshot(**changed):
    newest = {name: NOON - timedelta(seconds=60) for name in ("windows", "features", "scorer")}
    return Snapshot(
        **{
            "at": NOON,
            "programs": dict(PROGRAMS),
            "newest": newest,
            "flink": "RUNNING",
            "serving": "m1",
        }
        | changed
    )


def stages(before=None, **changed):
    return {stage.name: stage for stage in evaluate_stages(snapshot(**changed), before, Limits())}


def test_a_healthy_path_is_green():
    assert {s.state for s in stages().values()} == {"green"}


def test_a_stopped_stage_is_grey_and_says_how_to_start():
    found = stages(programs=PROGRAMS | {"store_clicks": ProcessState("STOPPED", 0)})["table"]
    assert (found.state, found.link) == ("grey", "/dags/run_streams")


@pytest.mark.parametrize(
    ("name", "changed", "state", "word"),
    [
        (
            "table",
            {"programs": PROGRAMS | {"store_clicks": ProcessState("BACKOFF", 0)}},
            "red",
            "BACKOFF",
        ),
        ("table", {"lags": {"table": 50_001}}, "red", "lag of 50,001 clicks"),
        ("table", {"lags": {"table": 5_001}}, "amber", "lag of 5,001"),
        ("windows", {"flink": "RESTARTING"}, "red", "RESTARTING"),
        ("windows", {"flink": None}, "red", "not submitted"),
        ("windows", {"newest": {"windows": NOON - timedelta(seconds=301)}}, "red", "301 s ago"),
        ("windows", {"newest": {"windows": NOON - timedelta(seconds=200)}}, "amber", "200 s ago"),
        ("serving", {"serving": ""}, "red", "readyz"),
        ("scorer", {"unscored": 3}, "red", "no score"),
        ("lake", {"unreachable": {"lake": "PostgreSQL: refused"}}, "red", "refused"),
        ("gate", {"given_up": {"validate_clicks": "restarted 5 times"}}, "red", "given up"),
        ("incidents", {"lags": {"incidents": 60_000}}, "red", "lag of 60,000 alerts"),
    ],
)
def test_a_problem_has_its_colour_and_its_reason(name, changed, state, word):
    found = stages(**changed)
    assert (found[name].state, word in found[name].reason) == (state, True), found[name]
    assert {s.state for n, s in found.items() if n != name} == {"green"}


def test_no_supervisord_is_red_everywhere_but_not_for_incidents():
    found = stages(programs=None, unreachable={"supervisor": "supervisord does not answer"})
    assert [s.name for s in red_stages(list(found.values()))] == [s.stage for s in STREAMS]


def test_a_stream_that_just_started_has_time_to_close_a_window():
    fresh = {name: ProcessState("RUNNING", 30) for name in PROGRAMS}
    assert (
        stages(programs=fresh, newest={"windows": NOON - timedelta(hours=5)})["windows"].state
        == "amber"
    )


def test_silent_producers_other_than_the_generator_are_fine():
    found = stages(
        programs=PROGRAMS | {"generate_clicks": ProcessState("STOPPED", 0)},
        newest={"windows": NOON - timedelta(days=1)},
    )
    assert found["windows"].state == "green"


def test_a_rate_is_the_change_since_the_earlier_counts():
    found = stages(
        {"table": PreviousCounts(NOON - timedelta(seconds=20), 100)},
        totals={"table": 300, "lake": 5},
    )
    assert (found["table"].rate, found["lake"].rate) == (10.0, None)
