"""Synthetic traffic: rates and shapes, reproducible clicks, visible attacks."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from adnomaly.arrow import CLICK_SCHEMA
from adnomaly.attack_kinds import KINDS
from adnomaly.attacks import Attack, moment
from adnomaly.errors import InvalidSetting
from adnomaly.events import decode, event_time
from adnomaly.features import FEATURES
from adnomaly.settings import SECRETS, Settings
from adnomaly.synthetic.attacks import plan_attacks
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.clicks import Clicks
from adnomaly.synthetic.encode import MessageEncoder, to_table
from adnomaly.synthetic.minute_counts import clipped_moments
from adnomaly.synthetic.traffic import PLAIN, Traffic, minute_of
from adnomaly.synthetic.windows import (
    SIMULATED,
    Simulation,
    simulate_feature,
    simulate_windows,
)

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
NOON = MONDAY + timedelta(hours=12)
FIELDS = (
    "time_us",
    "id_bits",
    "entity",
    "user",
    "agent",
    "ad",
    "cpc",
    "ctr",
    "conversion",
    "bounce",
)


def make(**changes) -> Traffic:
    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    return Traffic.from_settings(settings, **(PLAIN | {"base_eps": 20.0} | changes))


@pytest.fixture(scope="module")
def source() -> ClickSource:
    return ClickSource(make())


def an_attack(
    kind: str, *, geo="US", platform="web", start=NOON, minutes=30, strength=1.0
) -> Attack:
    return Attack(
        kind=kind,
        geo=geo,
        platform=platform,
        start=start,
        end=start + timedelta(minutes=minutes),
        strength=strength,
    )


def same(a: Clicks, b: Clicks) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


# The model of traffic


def test_the_mean_of_a_weekday_is_base_eps_and_weekends_are_quieter():
    traffic, day = make(), np.arange(1440)
    monday, saturday = (minute_of(MONDAY + timedelta(days=n)) for n in (0, 5))
    assert traffic.volume(monday + day).mean() / 60 == pytest.approx(20)
    assert traffic.volume(saturday + day).sum() / traffic.volume(
        monday + day
    ).sum() == pytest.approx(0.85)


def test_volume_and_ctr_peak_at_the_peak_hour_and_bounce_is_lowest_there():
    traffic, day = make(peak_hour_utc=7.5), minute_of(MONDAY) + np.arange(1440)
    volume = traffic.volume(day)
    assert abs(int(volume.argmax()) - 450) <= 1
    assert volume.max() / volume.min() == pytest.approx(1.6 / 0.4, rel=1e-3)
    ctr, bounce = traffic.ctr_means(day), traffic.bounce_means(day)
    assert abs(int(ctr[:, 3].argmax()) - 450) <= 1
    assert abs(int(bounce[:, 3].argmin()) - 450) <= 1
    assert ctr[:, 3].max() / ctr[:, 3].min() == pytest.approx(1.35 / 0.65, rel=1e-3)


def test_weights_need_not_sum_to_one():
    traffic = make(geos={"US": 3.0, "DE": 1.0}, platforms={"web": 1.0, "ios": 1.0})
    assert traffic.entities == (("US", "web"), ("US", "ios"), ("DE", "web"), ("DE", "ios"))
    assert traffic.shares == pytest.approx([3 / 8, 3 / 8, 1 / 8, 1 / 8])


def test_clicks_come_at_the_modelled_rates(source):
    clicks = source.clicks(minute_of(NOON), 240)
    expected = source.traffic.rates(minute_of(NOON) + np.arange(240)).sum(axis=0)
    seen = np.bincount(clicks.entity, minlength=len(expected))
    z = (seen - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert 0.4 < (z**2).mean() < 2.0


def test_averages_follow_entity_and_hour(source):
    traffic, minute = source.traffic, minute_of(MONDAY + timedelta(hours=20))
    clicks = source.clicks(minute, 10)
    us_web = clicks.entity == traffic.entity("US", "web")
    n = us_web.sum()
    assert clicks.ctr[us_web].mean() == pytest.approx(
        traffic.ctr_means(np.array([minute + 5]))[0, 0], abs=5 * 0.002 / np.sqrt(n) + 1e-4
    )
    assert clicks.bounce[us_web].mean() == pytest.approx(
        traffic.bounce_means(np.array([minute + 5]))[0, 0], abs=5 * 0.02 / np.sqrt(n) + 1e-3
    )
    assert clicks.ctr[us_web].std() == pytest.approx(0.002, rel=0.1)


def test_clipped_moments_match_a_simulation():
    draws = np.clip(np.random.default_rng(1).normal(0.01, 0.02, 400_000), 0, 1)
    mean, variance = clipped_moments(np.array([0.01]), 0.02)
    assert mean[0] == pytest.approx(draws.mean(), rel=0.01)
    assert variance[0] == pytest.approx(draws.var(), rel=0.01)
    mean, variance = clipped_moments(np.array([1.4]), 0.0)
    assert (mean[0], variance[0]) == (1.0, 0.0)


# People, campaigns, devices


def test_users_come_back_and_few_of_them_often(source):
    clicks = source.clicks(minute_of(NOON), 240)
    visits = np.bincount(clicks.user[clicks.entity == 0])
    visits = np.sort(visits[visits > 0])[::-1]
    assert (visits > 1).mean() > 0.2
    assert visits[: len(visits) // 100].sum() / visits.sum() > 0.04


def test_campaigns_are_zipf_and_differ_between_geos(source):
    clicks = source.clicks(minute_of(NOON), 240)
    top = []
    for geo in ("US", "IN"):
        counts = np.bincount(
            clicks.ad[clicks.entity == source.traffic.entity(geo, "web")] // 8, minlength=60
        )
        assert 0.15 < counts.max() / counts.sum() < 0.45
        top.append(counts.argmax())
    assert top[0] != top[1]


def test_a_user_keeps_the_device_and_the_platform(source):
    table = to_table(source.clicks(minute_of(NOON), 60), source).to_pandas()
    assert (table.groupby("user_id_hash")["user_agent"].nunique() == 1).all()
    assert (table.groupby("user_id_hash")["platform"].nunique() == 1).all()
    assert table[table.platform == "ios"].user_agent.str.contains("iPhone|iPad").all()


def test_user_ids_depend_on_the_salt_alone():
    one, other = (ClickSource(make(hash_salt=salt)) for salt in (b"a", b"b"))
    assert same(one.clicks(minute_of(NOON), 1), other.clicks(minute_of(NOON), 1))
    ids, others = (set(s.population.user_ids.to_pylist()) for s in (one, other))
    assert not ids & others
    assert len(ids) == len(one.population.user_ids)


# One minute is one minute


@pytest.mark.parametrize(
    "attacks", [(), (an_attack("click_flood"), an_attack("click_hijack", geo="DE"))]
)
def test_a_minute_is_the_same_however_it_is_generated(source, attacks):
    hour = source.clicks(minute_of(NOON), 60, attacks)
    minutes = [ClickSource(make()).clicks(minute_of(NOON) + i, 1, attacks) for i in range(2)] + [
        source.clicks(minute_of(NOON) + 2, 58, attacks)
    ]
    assert same(hour, Clicks.merge(minutes))


def test_another_seed_gives_other_clicks():
    a, b = (ClickSource(make(seed=seed)).clicks(minute_of(NOON), 1) for seed in (1, 2))
    assert not np.array_equal(a.time_us[:100], b.time_us[:100])
    assert not np.isin(a.id_bits, b.id_bits).any()


def test_clicks_are_ordered_and_inside_their_minutes(source):
    clicks = source.clicks(minute_of(NOON), 3, (an_attack("bot_farm"),))
    assert (np.diff(clicks.time_us) >= 0).all()
    assert clicks.time_us.min() >= minute_of(NOON) * 60_000_000
    assert clicks.time_us.max() < (minute_of(NOON) + 3) * 60_000_000


# The stored form and the messages


def test_every_message_is_valid_and_equals_its_table_row(source):
    clicks = source.clicks(
        minute_of(NOON),
        2,
        tuple(
            an_attack(kind, geo=geo) for kind, geo in zip(KINDS, source.traffic.geos, strict=False)
        ),
    )
    keys, values = MessageEncoder(source).encode(clicks)
    table = to_table(clicks, source)
    assert table.schema == CLICK_SCHEMA
    for key, value, row in zip(keys, values, table.to_pylist(), strict=True):
        click = decode(value)
        assert key.decode() == f"{click.geo}|{click.platform}"
        assert event_time(click) == row["timestamp"]
        stored = {name: row[name.lower()] for name in ("CPC", "CTR")} | {
            name: row[name] for name in row if name not in ("cpc", "ctr", "timestamp")
        }
        assert {name: getattr(click, name) for name in stored} == stored


def test_event_ids_are_uuid7_of_their_time_and_unique(source):
    table = to_table(source.clicks(minute_of(NOON), 30), source)
    ids, times = table["event_id"].to_pylist(), table["timestamp"].to_pylist()
    assert len(set(ids)) == len(ids)
    for text, when in zip(ids, times, strict=True):
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text
        )
        assert int(text.replace("-", "")[:12], 16) == int(when.timestamp() * 1000)


def test_values_stay_in_range_under_extreme_settings():
    source = ClickSource(make(noise_std_ctr=0.5, noise_std_bounce=0.5, noise_std_cpc=2.0))
    clicks = source.clicks(minute_of(NOON), 2, (an_attack("ctr_inflation", strength=20),))
    for values, high in ((clicks.ctr, 1), (clicks.bounce, 1), (clicks.cpc, np.inf)):
        assert values.min() == 0
        assert values.max() <= high
    assert [decode(value) for value in MessageEncoder(source).encode(clicks)[1]]


# Attacks


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_leaves_every_other_click_alone(source, kind):
    attack = an_attack(kind, minutes=5)
    calm, attacked = (
        source.clicks(minute_of(NOON) - 2, 10),
        source.clicks(minute_of(NOON) - 2, 10, (attack,)),
    )
    if attack.lost:
        calm, attacked = attacked, calm
    kept = np.isin(attacked.id_bits, calm.id_bits)
    assert same(attacked.take(kept), calm)
    changed = attacked.take(~kept)
    expected = source.traffic.rates(minute_of(NOON) + np.arange(5))[:, 0].sum() * (
        attack.extra or attack.lost
    )
    assert abs(len(changed) - expected) < 5 * np.sqrt(expected)
    assert set(changed.entity.tolist()) == {0}
    minutes = changed.time_us // 60_000_000 - minute_of(NOON)
    assert (minutes.min(), minutes.max()) == (0, 4)


def test_attackers_are_few_and_share_devices(source):
    calm, attacked = (
        source.clicks(minute_of(NOON), 10, attacks) for attacks in ((), (an_attack("bot_farm"),))
    )
    bots = attacked.take(~np.isin(attacked.id_bits, calm.id_bits))
    assert len(np.unique(bots.user)) == 25
    assert len(np.unique(bots.agent)) <= 3
    assert (bots.user >= source.population.first_bot).all()


def test_a_drain_hits_one_campaign(source):
    calm, attacked = (
        source.clicks(minute_of(NOON), 10, attacks)
        for attacks in ((), (an_attack("campaign_drain"),))
    )
    bots = attacked.take(~np.isin(attacked.id_bits, calm.id_bits))
    assert len(np.unique(bots.ad // 8)) == 1


DIRECTION = {
    "click_flood": ("event_count", +1),
    "bot_farm": ("event_count", +1),
    "ctr_inflation": ("ctr_avg", +1),
    "bounce_masking": ("bounce_rate_avg", -1),
    "low_and_slow": ("bounce_rate_avg", +1),
    "campaign_drain": ("ctr_avg", +1),
    "click_injection": ("event_count", +1),
    "click_hijack": ("event_count", -1),
    "data_centre_burst": ("unique_user_ratio", -1),
    "conversion_fraud": ("unique_user_ratio", -1),
    "promotion": ("event_count", +1),
}


@pytest.mark.parametrize(("kind", "feature", "sign"), [(kind, *DIRECTION[kind]) for kind in KINDS])
def test_an_attack_shows_in_its_windows_and_nowhere_else(kind, feature, sign):
    attack, start = an_attack(kind, minutes=60), NOON - timedelta(hours=2)
    calm, attacked = (
        simulate_windows(make(), start, 5 / 24, 1, attacks).to_pandas()
        for attacks in ((), (attack,))
    )
    mine = (attacked.geo == "US") & (attacked.platform == "web")
    inside = (
        mine & (attacked.window_start >= NOON) & (attacked.window_end <= NOON + timedelta(hours=1))
    )
    spread = calm[feature][mine].std()
    shift = (attacked[feature][inside].to_numpy() - calm[feature][inside].to_numpy()).mean()
    assert sign * shift > 2 * spread / np.sqrt(inside.sum() / 5)
    elsewhere = attacked[~mine]
    assert elsewhere.event_count.mean() == pytest.approx(calm[~mine].event_count.mean(), rel=0.01)


def test_every_feature_can_be_simulated_and_another_is_named():
    assert list(SIMULATED) == [feature.name for feature in FEATURES]
    other = FEATURES[0]._replace(name="dwell_time_avg")
    with pytest.raises(NotImplementedError, match="'dwell_time_avg' cannot be simulated: add its"):
        simulate_feature(other, Simulation(make(), None, np.ones((1, 1))))


def test_an_attack_changes_exactly_the_windows_that_overlap_it():
    attack = an_attack("click_flood", minutes=10)
    start, traffic = NOON - timedelta(hours=1), make()
    attacked, calm = (
        simulate_windows(traffic, start, 2 / 24, 1, attacks).to_pylist()
        for attacks in ((attack,), ())
    )
    hit = [w for w, before in zip(attacked, calm, strict=True) if w != before]
    assert {(w["geo"], w["platform"]) for w in hit} == {("US", "web")}
    assert min(w["window_end"] for w in hit) == NOON + timedelta(minutes=1)
    assert max(w["window_start"] for w in hit) == NOON + timedelta(minutes=9)
    assert len(hit) == 14


@pytest.mark.parametrize("scenario", [Traffic.plain, Traffic.hard])
def test_simulated_windows_have_the_distribution_of_counted_clicks(scenario):
    """Simulated and counted windows against the model: mean and spread of every feature.

    The windows do not overlap.
    """
    source = ClickSource(scenario(make()))
    attack = an_attack("bounce_masking", minutes=480, start=NOON - timedelta(hours=2))
    start, minutes = NOON - timedelta(hours=2), 480
    clicks = source.clicks(minute_of(start), minutes, (attack,))
    cell = (clicks.time_us // 60_000_000 - minute_of(start)) // 5 * 30 + clicks.entity
    n = np.bincount(cell, minlength=minutes // 5 * 30)
    counted = {
        "event_count": n,
        "ctr_avg": np.bincount(cell, clicks.ctr) / n,
        "bounce_rate_avg": np.bincount(cell, clicks.bounce) / n,
    }
    users = np.unique(np.column_stack([cell, clicks.user]), axis=0)[:, 0]
    counted["unique_user_ratio"] = np.bincount(users, minlength=len(n)) / n
    by_campaign = np.bincount(cell * 60 + clicks.ad // 8, minlength=60 * len(n)).reshape(-1, 60)
    counted["campaign_top_share"] = by_campaign.max(axis=1) / n
    table = simulate_windows(source.traffic, start, minutes / 1440, 9, (attack,)).to_pandas()
    offsets = (table.window_start - start).dt.total_seconds().to_numpy()
    simulated = table[offsets % 300 == 0].sort_values(["window_start"], kind="stable")
    assert len(simulated) == len(n)
    hours = np.arange(len(n)) // 30 // 12
    for name, values in counted.items():
        pairs = (
            np.asarray(values, float).reshape(-1, 30),
            simulated[name].to_numpy(float).reshape(-1, 30),
        )
        for entity in (0, 7, 29):
            a, b = (p[:, entity] for p in pairs)
            error = np.sqrt((a - b).var() / len(a))
            assert abs((a - b).mean()) < 4.5 * error, (name, entity)
            noise_a, noise_b = (np.diff(x).std() for x in (a, b))
            assert 0.6 < noise_a / noise_b < 1.6, (name, entity)
    assert hours.max() == 7


def test_simulated_windows_are_the_same_for_the_same_seed():
    tables = [simulate_windows(make(), NOON, 0.1, seed) for seed in (3, 3, 4)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_planned_attacks_are_apart_inside_and_repeatable():
    traffic, end = make(), MONDAY + timedelta(days=7)
    planned = plan_attacks(traffic, start=MONDAY, end=end, count=80, seed=5)
    assert planned == plan_attacks(traffic, start=MONDAY, end=end, count=80, seed=5)
    assert {a.kind for a in planned} == {kind for kind in KINDS if not KINDS[kind].benign}
    assert all(a.start >= MONDAY and a.end <= end for a in planned)
    for a, b in (
        (a, b)
        for a in planned
        for b in planned
        if a is not b and (a.geo, a.platform) == (b.geo, b.platform)
    ):
        assert a.start >= b.end + timedelta(hours=1) or b.start >= a.end + timedelta(hours=1)


def test_too_many_attacks_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        plan_attacks(
            make(geos={"US": 1.0}, platforms={"web": 1.0}),
            start=NOON,
            end=NOON + timedelta(hours=3),
            count=5,
            seed=1,
        )


def test_an_attack_is_read_from_one_argument():
    attack = Attack.parse("click_flood:DE:ios:2026-11-16T12:05:30Z:20m:1.5", now=MONDAY)
    assert attack == an_attack(
        "click_flood",
        geo="DE",
        platform="ios",
        start=NOON + timedelta(minutes=5),
        minutes=20,
        strength=1.5,
    )
    assert str(attack) == "DE ios click_flood 2026-11-16T12:05Z..2026-11-16T12:25Z"
    relative = Attack.parse("bot_farm:US:web:-90m:1h", now=NOON + timedelta(seconds=20))
    assert (relative.start, relative.end, relative.strength) == (
        NOON - timedelta(minutes=90),
        NOON - timedelta(minutes=30),
        1.0,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "click_flood:DE:ios",
        "nothing:DE:ios:-1h:10m",
        "click_flood:DE:ios:-1h:0m",
        "click_flood:DE:ios:soon:10m",
        "click_flood:DE:ios:-1h:10m:0",
    ],
)
def test_a_malformed_attack_is_refused(text):
    with pytest.raises(ValueError, match=r"attack|isoformat"):
        Attack.parse(text, now=NOON)


def test_moments():
    assert moment("-2h", now=NOON) == NOON - timedelta(hours=2)
    assert moment("2026-11-16T13:00:00+01:00", now=MONDAY) == NOON
    assert moment("2026-11-16T12:00", now=MONDAY) == NOON


def test_an_unknown_entity_is_refused(source):
    with pytest.raises(ValueError, match="XX ios"):
        source.clicks(minute_of(NOON), 1, (an_attack("click_flood", geo="XX", platform="ios"),))


@pytest.mark.parametrize("change", [{"platforms": {"tv": 1.0}}, {"geos": {"Germany": 1.0}}])
def test_values_that_the_schema_forbids_are_refused(change):
    with pytest.raises(InvalidSetting, match=r"tv|Germany"):
        make(**change)
