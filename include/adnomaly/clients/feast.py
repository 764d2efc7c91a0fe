"""Feast: configuration, definitions derived from the feature list, and the store opened with both.

Feast takes seconds to import, so it is imported locally: `variables` must not load it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from adnomaly.features import ENTITY, FEAST_TYPES, FEATURES, Feature
from adnomaly.windows import TTL

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureStore, FeatureView, FileSource, RepoConfig

VIEW: Final = "traffic_windows"
SERVICE: Final = "scoring"


class Definitions(NamedTuple):
    """All objects that are applied to the registry."""

    geo: "Entity"
    platform: "Entity"
    source: "FileSource"
    windows: "FeatureView"
    scoring: "FeatureService"


def definitions(mirror: Path, features: Sequence[Feature] = FEATURES) -> Definitions:
    """The feature view of windows per geo and platform, over Parquet files below `mirror`."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType, types
    from feast.data_format import ParquetFormat

    geo, platform = (
        Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in ENTITY
    )
    source = FileSource(
        name="windows",
        path=str(mirror),
        timestamp_field="window_end",
        created_timestamp_column="computed_at",
        file_format=ParquetFormat(),
        description="Windows of the daily backfill, one folder per day",
    )
    entity_fields = [Field(name=name, dtype=types.String) for name in ENTITY]
    feature_fields = [
        Field(name=f.name, dtype=getattr(types, FEAST_TYPES[f.dtype]), description=_describe(f))
        for f in features
    ]
    view = FeatureView(
        name=VIEW,
        entities=[geo, platform],
        ttl=TTL,
        schema=entity_fields + feature_fields,
        source=source,
        description="5-minute windows sliding by 1 minute; the event timestamp is window_end",
    )
    return Definitions(geo, platform, source, view, FeatureService(name=SERVICE, features=[view]))


def variables(registry_url: str, redis_url: str, mirror: Path) -> dict[str, str]:
    """The variables of feature_store.yaml.

    Args:
        registry_url: `postgresql://user:password@host:port/database`.
        redis_url: `redis[s]://[user:password@]host:port[/db]`.
    """
    return {
        "FEAST_REGISTRY": registry_url.replace("postgresql://", "postgresql+psycopg://", 1),
        "FEAST_REDIS": _redis_connection(redis_url),
        "FEAST_OFFLINE": str(mirror),
    }


def repo_config(repo: Path, values: Mapping[str, str]) -> "RepoConfig":
    """feature_store.yaml with these values, as our processes and `feast` use it."""
    import yaml
    from feast import RepoConfig

    text = Template((repo / "feature_store.yaml").read_text()).safe_substitute(values)
    config = RepoConfig(**yaml.safe_load(text))
    config.repo_path = repo
    return config


def open_store(repo: Path, values: Mapping[str, str]) -> "FeatureStore":
    """A feature store; connects to the registry."""
    from feast import FeatureStore

    return FeatureStore(config=repo_config(repo, values))


def _describe(feature: Feature) -> str:
    high = "unbounded" if feature.high is None else f"{feature.high:g}"
    return f"{feature.unit}, {feature.low:g} to {high}"


def _redis_connection(url: str) -> str:
    """A Redis address as Feast writes it: `host:port,db=0,password=...`."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.path.strip("/"):
        options["db"] = parts.path.strip("/")
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.scheme == "rediss":
        options["ssl"] = "true"
    return ",".join(
        [
            f"{parts.hostname}:{parts.port or 6379}",
            *(f"{name}={value}" for name, value in options.items()),
        ]
    )
