"""The only reader of the environment: one frozen object, built once in each process's `main`.

Precedence: environment, `.env`, the generated `secrets.env` (mode 0600) in ADNOMALY_HOME, defaults.
"""

import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from adnomaly.errors import InvalidSetting
from adnomaly.ports import DEFAULT_PORTS

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the folder that holds dags/, streaming/, serving/ and include/."""

SECRETS = (
    "HASH_SALT",
    "DB_PASSWORD",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "RAY_AUTH_TOKEN",
)
"""Secrets that `make setup` generates; none of them has a default."""


def _at(port: str, description: str, scheme: str = "") -> Any:
    return Field(
        default_factory=lambda data: f"{scheme}localhost:{_number(port, data)}",
        description=description,
    )


def _port(port: str, description: str) -> Any:
    return Field(default_factory=lambda data: _number(port, data), description=description)


def _number(port: str, data: dict[str, Any]) -> int:
    return int(DEFAULT_PORTS[port] + data["port_offset"])


def _weights(text: str) -> dict[str, float]:
    pairs = (part.partition(":") for part in text.split(","))
    return {name.strip(): float(weight) for name, _, weight in pairs}


class Settings(BaseSettings):
    """Every setting. Rates are per second, amplitudes are shares of the mean, ports are TCP."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=True)

    # Where this stack lives
    adnomaly_home: Path = Field(
        ROOT / ".adnomaly", description="Data, logs, secrets and sockets of the native stack"
    )
    port_offset: int = Field(
        0, ge=0, le=900, description="Added to every default port, to run a second stack"
    )

    # Generator
    base_eps: float = Field(120, gt=0, description="Mean clicks per second over a day")
    hash_salt: SecretStr = Field(description="Key of the user id hash")
    seed: int = Field(42, description="Seed of everything random")
    diurnal_ampl: float = Field(0.6, ge=0, lt=1, description="Daily swing of volume")
    peak_hour_utc: float = Field(20, ge=0, lt=24, description="US peak; others at that local hour")
    weekend_mult: float = Field(0.85, gt=0, description="Weekend volume against weekdays")
    geo_weights: str = Field(
        "US:0.30,IN:0.20,BR:0.12,DE:0.08,FR:0.08,UK:0.08,CA:0.06,JP:0.04,IT:0.02,AU:0.02",
        description="Share of clicks per geo",
    )
    platform_weights: str = Field(
        "web:0.45,android:0.30,ios:0.25", description="Share of clicks per platform"
    )
    ctr_base: float = Field(0.022, gt=0, lt=1, description="Mean click-through rate")
    ctr_diurnal_ampl: float = Field(
        0.35, ge=0, lt=1, description="Daily swing of the click-through rate"
    )
    bounce_base: float = Field(0.36, gt=0, lt=1, description="Mean bounce rate")
    bounce_diurnal_ampl: float = Field(
        0.20, ge=0, lt=1, description="Daily swing of the bounce rate"
    )
    noise_std_ctr: float = Field(0.002, ge=0, description="Standard deviation of one click's CTR")
    noise_std_bounce: float = Field(
        0.02, ge=0, description="Standard deviation of one click's bounce rate"
    )
    noise_std_cpc: float = Field(0.05, ge=0, description="Standard deviation of one click's CPC")
    world_roughness: float = Field(
        1,
        ge=0,
        le=3,
        description="Good and bad hours, days and weeks: 1 is as real series are, 0 is none",
    )
    local_clocks: bool = Field(
        True, description="Each geo has its peak and its weekend by its own clock"
    )
    holiday_mult: float = Field(
        0.7, gt=0, le=2, description="Volume on public holidays against other days"
    )
    promotions_per_day: float = Field(
        2.2, ge=0, le=100, description="Benign promotions, over all entities"
    )

    # Kafka
    kafka_bootstrap: str = _at("kafka", "Kafka broker")
    max_event_age_hours: float = Field(168, gt=0, description="Older clicks go to the dead letters")

    # PostgreSQL
    db_host: str = Field("localhost", description="PostgreSQL")
    db_port: int = _port("postgres", "PostgreSQL")
    db_name: str = Field("adnomaly", description="Database of clicks, windows and alerts")
    db_user: str = Field("adnomaly_user", description="Its user")
    db_password: SecretStr = Field(description="Its password")

    # S3
    minio_endpoint: str = _at("s3", "S3 API")
    minio_access_key: SecretStr = Field(description="S3 key id")
    minio_secret_key: SecretStr = Field(description="S3 secret key, and password of the S3 console")
    minio_bucket: str = Field("adnomaly-data", description="Bucket of the lake")
    s3_region: str = Field("us-east-1", description="Region of the S3 server")

    # Redis, Flink, MLflow, Ray, Airflow
    redis_url: str = _at("redis", "Online features", "redis://")
    flink_url: str = _at("jobmanager", "Flink REST and UI", "http://")
    mlflow_tracking_uri: str = _at("mlflow", "Model registry", "http://")
    ray_dashboard_url: str = _at("ray", "Ray dashboard and jobs", "http://")
    ray_auth_token: SecretStr = Field(description="Token of Ray's APIs")
    airflow_url: str = _at("api-server", "Airflow UI and API", "http://")
    airflow_admin_password: SecretStr = Field(description="Password of Airflow's user admin")

    # Scoring
    serving_url: str = _at("serving", "Scoring API", "http://")
    scorer_metrics_port: int = _port("scorer-metrics", "Prometheus metrics of score_windows")
    model_path: Path | None = Field(
        None, description="Serve this model.onnx instead of the champion's (with the next two)"
    )
    preprocess_path: Path | None = Field(None, description="Its preprocess.json")
    threshold_path: Path | None = Field(None, description="Its threshold.json")
    alerts_per_day: float = Field(
        1.0, gt=0, description="Budget of false incidents a day for the whole platform"
    )
    deploy_approval: bool = Field(
        False, description="A person must approve before a detector goes live"
    )
    alert_channels: SecretStr = Field(
        SecretStr(""), description="Who is told about incidents: Apprise URLs, separated by spaces"
    )
    retention_days: int = Field(
        30, ge=2, le=3650, description="Days that clicks stay in PostgreSQL and in the lake"
    )
    adnomaly_program: str = Field("", description="Set by supervisord: the program that this is")
    failpoint: str = Field(
        "", description="For tests: a line at which a stream kills itself, such as after_put:3"
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR"
    )

    @field_validator("adnomaly_home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return (ROOT / home.expanduser()).resolve()

    @field_validator("geo_weights", "platform_weights")
    @classmethod
    def _are_weights(cls, text: str) -> str:
        """Require `name:weight,name:weight`, each weight above 0; the sum need not be 1."""
        try:
            weights = _weights(text)
        except ValueError:
            weights = {}
        if not weights or min(weights.values()) <= 0 or "" in weights:
            pairs = "name:weight pairs such as US:0.6,DE:0.4 with weights above 0"
            raise ValueError(f"must be {pairs}, got {text!r}")
        return text

    @property
    def geos(self) -> dict[str, float]:
        """Weight of each geo, as given."""
        return _weights(self.geo_weights)

    @property
    def platforms(self) -> dict[str, float]:
        """Weight of each platform, as given."""
        return _weights(self.platform_weights)

    @property
    def max_event_age(self) -> timedelta:
        return timedelta(hours=self.max_event_age_hours)

    @property
    def s3_url(self) -> str:
        return f"http://{self.minio_endpoint}"

    @property
    def s3_console_url(self) -> str:
        return f"http://localhost:{DEFAULT_PORTS['s3-console'] + self.port_offset}"

    def postgres_url(self, database: str | None = None) -> str:
        """`postgresql://user:password@host:port/database`; the database defaults to DB_NAME."""
        credentials = f"{self.db_user}:{self.db_password.get_secret_value()}"
        return (
            f"postgresql://{credentials}@{self.db_host}:{self.db_port}/{database or self.db_name}"
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, dotenv_settings)


def _check_names(file: Path) -> None:
    """Refuse unknown names in a settings file; pydantic would ignore a misspelt one silently."""
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        name = line.partition("=")[0].strip()
        if name and not name.startswith("#") and name.lower() not in Settings.model_fields:
            known = "the known ones are in .env.example"
            raise InvalidSetting(f"{file.name}: unknown setting {name!r}; {known}")


def home_path() -> Path:
    """ADNOMALY_HOME, also before its secrets exist."""
    return ROOT / os.environ.get("ADNOMALY_HOME", ".adnomaly")


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        InvalidSetting: a malformed value, a missing secret, or an unknown name in a file.
    """
    files = (home_path() / "secrets.env", ROOT / ".env")
    for file in files:
        _check_names(file)
    try:
        return Settings(_env_file=files)  # type: ignore[call-arg]  # of pydantic-settings
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            for e in error.errors(include_input=False)
            # A default derived from an invalid field adds nothing.
            if e["type"] != "default_factory_not_called"
        )
        raise InvalidSetting(
            f"{problems}. `make setup` generates the secrets; "
            ".env.example describes the other settings"
        ) from None
