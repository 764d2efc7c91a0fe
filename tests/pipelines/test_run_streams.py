"""The plan of the generator, and the programs to start."""

from datetime import UTC, datetime, timedelta

import pytest

from adnomaly.generator_state import GeneratorFiles, Plan, SentSpans
from adnomaly.home import Home
from adnomaly.pipelines import run_streams
from adnomaly.settings import SECRETS
from stack.docs.reference import Defaults

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
FLOOD = "click_flood:DE:web:-40m:20m:2"


def _settings(home, setting=120.0):
    return Defaults(
        **{name.lower(): "s" * 32 for name in SECRETS}, adnomaly_home=home, base_eps=setting
    )


def _plan(home, *attacks, begin=None, base_eps=None, now=NOON, setting=120.0):
    run_streams.write_plan(
        _settings(home, setting), begin=begin, attacks=attacks, base_eps=base_eps, now=now
    )
    return GeneratorFiles(Home(home)).read_plan()


def test_a_rate_of_the_form_holds_until_base_eps_changes(tmp_path):
    assert _plan(tmp_path).rate(120.0) == 120.0
    assert _plan(tmp_path, base_eps=4).rate(120.0) == 4
    assert _plan(tmp_path, FLOOD).rate(120.0) == 4
    assert _plan(tmp_path, FLOOD).rate(50.0) == 50
    assert _plan(tmp_path, base_eps=4, setting=50.0).rate(50.0) == 4
    assert Plan(base_eps=7.0).rate(50.0) == 7  # of an earlier version


def test_relative_moments_refer_to_the_run(tmp_path):
    plan = _plan(tmp_path, FLOOD, begin="-2h", base_eps=20)
    assert plan.begin == NOON - timedelta(hours=2)
    assert plan.base_eps == 20
    assert [(a.geo, a.platform, a.start, a.end, a.strength) for a in plan.attacks] == [
        ("DE", "web", NOON - timedelta(minutes=40), NOON - timedelta(minutes=20), 2)
    ]


def test_planting_another_attack_does_not_cut_one_off(tmp_path):
    _plan(tmp_path, "click_flood:DE:web:-5m:20m")
    later = _plan(tmp_path, "bot_farm:BR:ios:+1m:5m")
    assert [a.geo for a in later.attacks] == ["DE", "BR"]


def test_an_attack_stays_planned_until_it_was_sent(tmp_path):
    """While the generator still catches up, an attack of the past is not over for it."""
    GeneratorFiles(Home(tmp_path)).write_progress(
        SentSpans(sent=((NOON - timedelta(hours=2), NOON - timedelta(hours=1)),))
    )
    _plan(tmp_path, FLOOD)
    assert [a.geo for a in _plan(tmp_path).attacks] == ["DE"]
    GeneratorFiles(Home(tmp_path)).write_progress(
        SentSpans(sent=((NOON - timedelta(hours=2), NOON),))
    )
    assert _plan(tmp_path).attacks == ()


def test_the_same_run_twice_plans_once(tmp_path):
    assert _plan(tmp_path, FLOOD) == _plan(tmp_path, FLOOD)


def test_the_rate_stays_until_another_is_asked_for(tmp_path):
    _plan(tmp_path, base_eps=20)
    assert _plan(tmp_path).base_eps == 20
    assert _plan(tmp_path, base_eps=50).base_eps == 50


def test_a_malformed_attack_changes_nothing(tmp_path):
    before = _plan(tmp_path, FLOOD)
    with pytest.raises(ValueError, match="unknown attack 'flood'"):
        _plan(tmp_path, "flood:DE:web:-5m:5m")
    assert GeneratorFiles(Home(tmp_path)).read_plan() == before


def test_scoring_starts_only_with_a_bundle(tmp_path):
    made = []

    def prepare():
        return run_streams.prepare(
            _settings(tmp_path),
            [lambda: made.append(1)],
            begin=None,
            attacks=[],
            base_eps=None,
            now=NOON,
        )

    assert prepare() == ["generate_clicks"]
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "CURRENT").write_text("abc")
    assert prepare() == ["serve_detector", "score_windows", "generate_clicks"]
    assert made == [1, 1]
