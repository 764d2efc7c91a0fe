"""The window definition and the SQL rendered from it."""

from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from adnomaly.features import CONTRACT, FEATURES, Feature
from adnomaly.windows import (
    SIZE,
    SLIDE,
    TrafficWindow,
    check_window,
    day_of,
    decode_window,
    parse_window,
    time_text,
    window_sql,
)

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_the_window_that_ends_at_midnight_belongs_to_the_day_before():
    midnight = datetime(2026, 3, 11, tzinfo=UTC)
    assert day_of(midnight) == date(2026, 3, 10)
    assert day_of(midnight + SLIDE) == date(2026, 3, 11)


def test_sql_names_slide_before_size_and_every_feature():
    sql = window_sql("clicks")
    assert "INTERVAL '1' MINUTE, INTERVAL '5' MINUTE" in sql
    assert all(f"{f.sql} AS {f.name}" in sql for f in FEATURES if f.over is None)


def test_features_over_groups_come_from_one_pass_over_the_clicks():
    sql = window_sql("clicks")
    assert (
        "GROUPING SETS ((geo, platform), (geo, platform, user_id_hash), (geo, platform, campaign_id))"
        in sql
    )
    assert sql.count("HOP(") == 1
    assert not {"DISTINCT", "UNION", "JOIN"} & set(sql.split())


def test_the_kind_of_a_group_marks_the_columns_left_out():
    sql = window_sql(
        "clicks"
    )  # GROUPING_ID(user_id_hash, campaign_id): the first column is the higher bit
    assert (
        "COUNT(*) FILTER (WHERE kind = 1) AS DOUBLE) / MAX(clicks) FILTER (WHERE kind = 3) AS unique_user_ratio"
        in sql
    )
    assert (
        "MAX(clicks) FILTER (WHERE kind = 2) AS DOUBLE) / MAX(clicks) FILTER (WHERE kind = 3) AS campaign_top_share"
        in sql
    )


def test_without_such_features_the_sql_is_one_aggregation():
    plain = [f for f in FEATURES if f.over is None]
    assert window_sql("clicks", plain).count("SELECT") == 1


def test_a_feature_added_to_the_list_appears_in_the_sql():
    extra = Feature("cpc_avg", "float64", "currency", 0, None, "AVG(cpc)")
    assert "AVG(cpc) AS cpc_avg" in window_sql("clicks", (*FEATURES, extra))


def test_the_contract_is_three_features_in_order():
    assert CONTRACT == ("ctr_avg", "bounce_rate_avg", "event_count")


def test_decode_window_names_missing_fields():
    message = b'{"window_start":"2026-03-10T12:00:00Z","window_end":"2026-03-10T12:05:00Z","geo":"US","platform":"web","ctr_avg":0.02,"bounce_rate_avg":0.3,"event_count":7}'
    window = decode_window(message)
    assert (window.window_end, window.key, window.features["event_count"]) == (
        NOON + SIZE,
        "US|web",
        7,
    )
    with pytest.raises(ValueError, match="bounce_rate_avg"):
        decode_window(message.replace(b"bounce_rate_avg", b"bounce"))


GOOD = TrafficWindow(
    window_start=NOON - SIZE,
    window_end=NOON,
    geo="US",
    platform="web",
    features={"ctr_avg": 0.02, "bounce_rate_avg": 0.4, "event_count": 12, "unique_user_ratio": 1.0},
)


def test_a_window_of_ours_passes():
    check_window(GOOD)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            {"window_end": NOON + SLIDE},
            "window_end: must be a full minute since 1970, 0:05:00 after window_start",
        ),
        (
            {
                "window_start": NOON - SIZE + timedelta(seconds=7),
                "window_end": NOON + timedelta(seconds=7),
            },
            "window_end: must be a full minute",
        ),
        ({"geo": "usa"}, "geo: .*got 'usa'"),
        ({"geo": 7}, "geo: .*got 7"),
        ({"platform": "fridge"}, "platform: .*got 'fridge'"),
        ({"ctr_avg": 1.5}, "ctr_avg: must be a number from 0 to 1, got 1.5"),
        ({"ctr_avg": float("nan")}, "ctr_avg: must be a number from 0 to 1, got nan"),
        ({"bounce_rate_avg": "0.4"}, "bounce_rate_avg: must be a number from 0 to 1, got '0.4'"),
        (
            {"event_count": 0},
            "event_count: must be a whole number from 1 to 9223372036854775807, got 0",
        ),
        (
            {"event_count": 2**70},
            "event_count: must be a whole number .*got 1180591620717411303424",
        ),
        ({"ctr_avg": 7}, "ctr_avg: must be a number from 0 to 1, got 7"),
        ({"ctr_avg": 10**400}, "ctr_avg: must be a number from 0 to 1, got 1000"),
        (
            {
                "window_start": datetime(1969, 12, 31, 23, 55, tzinfo=UTC),
                "window_end": datetime(1970, 1, 1, tzinfo=UTC),
            },
            "window_end: must be a full minute since 1970",
        ),
        ({"event_count": 2.5}, "event_count: must be a whole number"),
        ({"event_count": True}, "event_count: must be a whole number"),
        ({"unique_user_ratio": -0.1}, "unique_user_ratio: must be a number from 0 to 1, got -0.1"),
    ],
)
def test_an_impossible_window_is_refused_by_field_value_and_rule(change, rule):
    own = {name: value for name, value in change.items() if name not in GOOD.features}
    features = GOOD.features | {
        name: value for name, value in change.items() if name in GOOD.features
    }
    with pytest.raises(ValueError, match=rule):
        check_window(msgspec.structs.replace(GOOD, features=features, **own))


def message(**changes: object) -> bytes:
    fields = {
        "window_start": time_text(GOOD.window_start),
        "window_end": time_text(GOOD.window_end),
        "geo": "US",
        "platform": "web",
        "ctr_avg": 0,
        "bounce_rate_avg": 0.4,
        "event_count": 12.0,
    }
    return msgspec.json.encode(fields | changes)


def test_a_parsed_window_has_the_types_of_the_feature_list():
    features = parse_window(message(), now=NOON).features
    assert features == {"ctr_avg": 0.0, "bounce_rate_avg": 0.4, "event_count": 12}
    assert {name: type(value) for name, value in features.items()} == {
        "ctr_avg": float,
        "bounce_rate_avg": float,
        "event_count": int,
    }


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "message: must have 1 to 2000 bytes, got null"),
        (b" " * 2001, "message: must have 1 to 2000 bytes, got 2001 bytes"),
        (b"", "message: must be a window as a JSON object"),
        (b"not json", "message: must be a window as a JSON object"),
        (b"[" * 1500, "message: must be a window as a JSON object"),
        (b"5", "message: must be a window as a JSON object"),
        (b"[]", "message: must be a window as a JSON object"),
        (b"\xff\xfe", "utf-8|JSON object"),
        (b"{}", "window_start: must be given"),
        *(
            (message(**{name: None}), f"{name}: must be given, got ")
            for name in ("window_end", "geo", "platform", "ctr_avg", "event_count")
        ),
        (message(geo=5), "geo: Expected `str`, got `int`, got 5"),
        (message(ctr_avg=[1]), "ctr_avg: must be a number from 0 to 1"),
        (message(window_end=7), "message: must be a window as a JSON object"),
        (
            message(window_end="yesterday"),
            "window_end: must be a time in ISO 8601, got 'yesterday'",
        ),
        (message(ctr_avg=7), "ctr_avg: must be a number from 0 to 1, got 7"),
        (message().replace(b"12.0", b"1" + b"0" * 400), "event_count: must be a whole number|JSON"),
        (message(window_end="10000-01-01T00:00:00Z"), "."),
        (message(window_end="9999-12-31T23:59:00-01:00"), "."),
        (message(window_end="0001-01-01T00:00:00+01:00"), "."),
        (message(window_end="0001-01-01T00:00:00"), "."),
        (
            message(window_start="1969-12-31T23:50:00Z", window_end="1969-12-31T23:55:00Z"),
            "window_end: must be a full minute since 1970",
        ),
        (
            message(window_start="9999-12-31T23:50:00Z", window_end="9999-12-31T23:55:00Z"),
            "window_end: must not be more than 1:00:00 ahead, got 9999-12-31T23:55:00Z",
        ),
    ],
)
def test_every_message_that_is_no_window_is_a_value_error(value, rule):
    with pytest.raises(ValueError, match=rule):
        parse_window(value, now=NOON)
