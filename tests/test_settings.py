"""Settings: typed, frozen, named errors, and a second stack by one number."""

import pytest
from pydantic import ValidationError

from adnomaly import settings as module
from adnomaly.errors import InvalidSetting
from adnomaly.settings import SECRETS, Settings

SECRET_VALUES = {name.lower(): "x" * 32 for name in SECRETS}


def make(**changes) -> Settings:
    return Settings(_env_file=None, **(SECRET_VALUES | changes))


def test_defaults_are_those_of_the_contract():
    settings = make()
    assert (settings.base_eps, settings.seed, settings.peak_hour_utc) == (120, 42, 20)
    assert (settings.kafka_bootstrap, settings.db_port, settings.minio_endpoint) == (
        "localhost:29092",
        5433,
        "localhost:9000",
    )
    assert sum(settings.geos.values()) == pytest.approx(1)
    assert settings.platforms == {"web": 0.45, "android": 0.30, "ios": 0.25}


def test_port_offset_moves_every_default_and_nothing_that_was_given():
    settings = make(port_offset=500, db_port=6000)
    assert settings.s3_console_url == "http://localhost:9501"
    assert (settings.kafka_bootstrap, settings.serving_url, settings.db_port) == (
        "localhost:29592",
        "http://localhost:8580",
        6000,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"base_eps": 0},
        {"geo_weights": "US"},
        {"geo_weights": "US:-1"},
        {"log_level": "LOUD"},
        {"diurnal_ampl": 1},
    ],
)
def test_a_value_out_of_range_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        make(**change)


def test_frozen_and_secrets_do_not_print():
    settings = make(db_password="hunter2hunter2hunter2")
    with pytest.raises(ValidationError):
        settings.seed = 1
    assert "hunter2" not in repr(settings)


def test_a_misspelt_name_in_a_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "secrets.env").write_text("DB_PASWORD=x\n")
    monkeypatch.setenv("ADNOMALY_HOME", str(tmp_path))
    module.load_settings.cache_clear()
    with pytest.raises(InvalidSetting, match="DB_PASWORD"):
        module.load_settings()
    module.load_settings.cache_clear()


def test_a_missing_secret_is_named_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("ADNOMALY_HOME", str(tmp_path))
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.load_settings.cache_clear()
    with pytest.raises(InvalidSetting, match=r"DB_PASSWORD: .*make setup"):
        module.load_settings()
    module.load_settings.cache_clear()
