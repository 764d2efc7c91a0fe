"""The drawings of docs/architecture.md follow the tables in code."""

import pytest

from adnomaly.streams import STREAMS, Stream
from adnomaly.topics import VALID_TOPIC
from stack.docs import drawings

DAGS = {
    "backfill_features": {"tasks": ["a"], "woken_by": [], "updates": ["adnomaly_offline_features"]},
    "train_detector": {
        "tasks": ["fit", "seal"],
        "woken_by": ["adnomaly_offline_features"],
        "updates": ["adnomaly_detector"],
    },
    "deploy_detector": {"tasks": ["b"], "woken_by": ["adnomaly_detector"], "updates": []},
    "handle_alert": {"tasks": ["c"], "woken_by": ["adnomaly_alerts"], "updates": []},
}


def test_every_stream_with_a_topic_is_drawn_with_its_inputs_and_outputs():
    drawing = drawings.path_of_a_click()
    for stream in STREAMS:
        if stream.source:
            assert f"{stream.source.name.replace('.', '_')} --> {stream.name}" in drawing
        for target in stream.writes:
            assert f'"{target}"' in drawing
    assert "serve_detector" not in drawing


def test_a_new_stream_appears_in_the_drawing():
    index = Stream(
        "index_clicks", "index", "Index", "consumer", "clicks", VALID_TOPIC, writes=("a.search",)
    )
    before, after = drawings.path_of_a_click(), drawings.path_of_a_click((*STREAMS, index))
    added = set(after.splitlines()) - set(before.splitlines())
    assert added == {
        '    index_clicks["index_clicks<br/>Index"]',
        '    a_search[("a.search")]',
        "    clickstream_valid --> index_clicks",
        "    index_clicks --> a_search",
    }


def test_a_removed_stream_disappears_from_the_drawing():
    rest = tuple(stream for stream in STREAMS if stream.name != "archive_clicks")
    assert "S3 lake" in drawings.path_of_a_click()
    assert "archive_clicks" not in drawings.path_of_a_click(rest)
    assert "S3 lake" not in drawings.path_of_a_click(rest)


def test_the_life_of_a_model_leads_from_the_lake_to_the_streams_that_score():
    drawing = drawings.life_of_a_model(DAGS)
    arrows = {line.strip() for line in drawing.splitlines() if "-->" in line}
    assert arrows == {
        "S3_lake --> backfill_features",
        "backfill_features --> adnomaly_offline_features",
        "adnomaly_offline_features --> train_detector",
        "train_detector --> adnomaly_detector",
        "adnomaly_detector --> deploy_detector",
        "deploy_detector --> bundles_CURRENT",
        "bundles_CURRENT --> serve_detector",
        "bundles_CURRENT --> score_windows",
    }
    assert 'train_detector["train_detector<br/>fit, seal"]' in drawing


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="<!-- path of a click -->"):
        drawings._replace("# Architecture", "path of a click", "")
