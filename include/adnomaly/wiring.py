"""The only chooser: which adapter stands behind which need, opened on first use.

`connect()` reads the settings once per process; entry points call it and pass plain backends on.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from adnomaly.settings import ROOT, Settings, load_settings

if TYPE_CHECKING:
    from adnomaly.adapters.alert_topic import AlertTopic
    from adnomaly.adapters.dead_letters import DeadLetters
    from adnomaly.adapters.evidence_store import EvidenceStore
    from adnomaly.adapters.feature_store import OnlineFeatures
    from adnomaly.adapters.flink import Flink
    from adnomaly.adapters.health_store import HealthStore
    from adnomaly.adapters.incident_store import IncidentStore
    from adnomaly.adapters.lake import Lake
    from adnomaly.adapters.lake_upkeep import LakeUpkeep
    from adnomaly.adapters.mlflow import Registry
    from adnomaly.adapters.model_catalog import ModelCatalog
    from adnomaly.adapters.model_history import ModelHistory
    from adnomaly.adapters.notifier import Notifier
    from adnomaly.adapters.offline_features import OfflineFeatures
    from adnomaly.adapters.path_sight import PathSight
    from adnomaly.adapters.postgres import Postgres
    from adnomaly.adapters.ray_serve import Serving
    from adnomaly.adapters.retention import Retention
    from adnomaly.adapters.s3 import ObjectStore
    from adnomaly.adapters.supervisor import Supervisor
    from adnomaly.adapters.window_store import WindowStore
    from adnomaly.synthetic.traffic import Traffic


class Backends:
    """Every outside system, built from one `Settings`. Nothing connects before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def home(self) -> Path:
        return self.settings.adnomaly_home

    @cached_property
    def objects(self) -> "ObjectStore":
        from adnomaly.adapters.s3 import ObjectStore

        s = self.settings
        return ObjectStore(s.s3_url, s.minio_access_key.get_secret_value(), s.minio_secret_key.get_secret_value(), s.minio_bucket)

    @cached_property
    def postgres(self) -> "Postgres":
        from adnomaly.adapters.postgres import Postgres

        return Postgres(self.settings.postgres_url())

    @cached_property
    def lake(self) -> "Lake":
        from adnomaly.adapters.lake import Lake

        return Lake(self.objects, self.postgres)

    @cached_property
    def flink(self) -> "Flink":
        from adnomaly.adapters.flink import Flink

        folder, lake_url = self.home / "flink", f"s3://{self.settings.minio_bucket}/clicks"
        return Flink(
            self.settings.flink_url, flink_home=folder / "home", checkpoints=folder / "checkpoints", lake=self.lake, lake_url=lake_url
        )

    @cached_property
    def offline_features(self) -> "OfflineFeatures":
        from adnomaly.adapters.offline_features import OfflineFeatures

        return OfflineFeatures(self.objects, mirror=self.home / "offline" / "features")

    @cached_property
    def online_features(self) -> "OnlineFeatures":
        from adnomaly.adapters.feature_store import OnlineFeatures

        s = self.settings
        repo = ROOT / "include" / "feature_repo"
        return OnlineFeatures(repo, registry_url=s.postgres_url("feast"), redis_url=s.redis_url, mirror=self.offline_features.mirror)

    @cached_property
    def window_store(self) -> "WindowStore":
        from adnomaly.adapters.window_store import WindowStore

        return WindowStore(self.postgres)

    @cached_property
    def incidents(self) -> "IncidentStore":
        from adnomaly.adapters.incident_store import IncidentStore

        return IncidentStore(self.postgres)

    @cached_property
    def evidence(self) -> "EvidenceStore":
        from adnomaly.adapters.evidence_store import EvidenceStore

        return EvidenceStore(self.postgres)

    @cached_property
    def alerts(self) -> "AlertTopic":
        from adnomaly.adapters.alert_topic import AlertTopic

        return AlertTopic(self.settings.kafka_bootstrap, self.postgres)

    @cached_property
    def sight(self) -> "PathSight":
        from adnomaly.adapters.path_sight import PathSight

        return PathSight(self.settings.kafka_bootstrap, self.postgres, self.supervisor, self.flink, self.settings.serving_url, self.home)

    @cached_property
    def health(self) -> "HealthStore":
        from adnomaly.adapters.health_store import HealthStore

        return HealthStore(self.postgres, self.settings.kafka_bootstrap)

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from adnomaly.adapters.dead_letters import DeadLetters

        return DeadLetters(self.settings.kafka_bootstrap, self.postgres)

    @cached_property
    def catalog(self) -> "ModelCatalog":
        from adnomaly.adapters.model_catalog import ModelCatalog

        return ModelCatalog(self.settings.mlflow_tracking_uri)

    @cached_property
    def model_history(self) -> "ModelHistory":
        from adnomaly.adapters.model_history import ModelHistory

        return ModelHistory(self.postgres)

    @cached_property
    def lake_upkeep(self) -> "LakeUpkeep":
        from adnomaly.adapters.lake_upkeep import LakeUpkeep

        return LakeUpkeep(self.objects, self.postgres)

    @cached_property
    def retention(self) -> "Retention":
        from adnomaly.adapters.retention import Retention

        return Retention(self.postgres)

    @cached_property
    def notifier(self) -> "Notifier":
        from adnomaly.adapters.notifier import Notifier

        return Notifier(self.postgres, self.settings.alert_channels.get_secret_value(), self.incident_page)

    def incident_page(self, incident_id: str) -> str:
        """Where people look at an incident and decide about it."""
        return f"{self.settings.airflow_url}/plugin/adnomaly/adnomaly/incidents?id={quote(incident_id, safe='')}"

    @cached_property
    def registry(self) -> "Registry":
        from adnomaly.adapters.mlflow import Registry

        return Registry(self.settings.mlflow_tracking_uri)

    @cached_property
    def serving(self) -> "Serving":
        from adnomaly.adapters.ray_serve import Serving

        s = self.settings
        return Serving(s.ray_dashboard_url, s.serving_url, token=s.ray_auth_token.get_secret_value())

    @cached_property
    def traffic(self) -> "Traffic":
        """The synthetic traffic that the settings describe."""
        from adnomaly.synthetic.traffic import Traffic

        return Traffic.from_settings(self.settings)

    @cached_property
    def supervisor(self) -> "Supervisor":
        from adnomaly.adapters.supervisor import Supervisor

        return Supervisor(self.home)

    def create_topics(self) -> None:
        """Create the topics that are missing. Idempotent."""
        from adnomaly.adapters.kafka import create_topics

        create_topics(self.settings.kafka_bootstrap)


def connect(settings: Settings | None = None) -> Backends:
    """The backends of this process; settings default to those of the environment."""
    return Backends(settings or load_settings())
