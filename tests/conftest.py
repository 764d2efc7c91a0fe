"""A small trained detector for many tests, made by the pipeline's steps from simulated windows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRAIN_DAYS, HOLDOUT_DAYS = 12, 5


class TableOfWindows:
    """Offline features in memory."""

    def __init__(self, windows) -> None:
        self.windows = windows

    def days(self) -> list[date]:
        return sorted({moment.date() for moment in self.windows["window_end"].unique().to_pylist()})

    def between(self, start: datetime, end: datetime):
        import pyarrow.compute as pc

        ends = self.windows["window_end"]
        return self.windows.filter(pc.and_(pc.greater(ends, start), pc.less_equal(ends, end)))


@pytest.fixture(scope="session")
def small_traffic():
    """Six entities, 12 clicks per second, in the plain scenario."""
    from adnomaly.settings import SECRETS, Settings
    from adnomaly.synthetic.traffic import Traffic

    settings = Settings(_env_file=None, **{name.lower(): "x" * 32 for name in SECRETS})
    geos, platforms = {"US": 0.5, "DE": 0.3, "BR": 0.2}, {"web": 0.6, "android": 0.4}
    return Traffic.from_settings(settings, base_eps=12.0, geos=geos, platforms=platforms).plain()


@pytest.fixture(scope="session")
def offline(small_traffic) -> TableOfWindows:
    """Twelve days of windows without attacks, up to NOON."""
    from adnomaly.synthetic.windows import simulate_windows

    return TableOfWindows(
        simulate_windows(small_traffic, NOON - timedelta(days=TRAIN_DAYS), TRAIN_DAYS, 1)
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_traffic, offline) -> Path:
    """The work folder of a finished training run, up to the sealed bundle."""
    from adnomaly.pipelines import train_detector as pipeline

    work = tmp_path_factory.mktemp("trained") / "run"
    folder = pipeline.take_sample(offline, work, seed=7, budget_per_day=1.0, train_days=TRAIN_DAYS)
    pipeline.fit(folder)
    pipeline.evaluate(folder, small_traffic, days=HOLDOUT_DAYS)
    pipeline.seal(folder)
    return work


@pytest.fixture(scope="session")
def bundle(trained) -> Path:
    """A sealed bundle; copy its files to change them."""
    from adnomaly.pipelines._training_run import TrainingRun

    return TrainingRun(trained).bundle
