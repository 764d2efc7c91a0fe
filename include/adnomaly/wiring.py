"""Wiring: every client and store, built from one `Settings` and connected on first use.

Entry points call `connect()`, which reads the settings once per process, and pass plain objects on.
Imports are local, so a process loads only the libraries of the backends it uses.
"""

from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from adnomaly.home import Home
from adnomaly.settings import ROOT, Settings, load_settings

if TYPE_CHECKING:
    from adnomaly.clients.flink import Flink
    from adnomaly.clients.mlflow import Registry
    from adnomaly.clients.mlflow_catalog import ModelCatalog
    from adnomaly.clients.postgres import Postgres
    from adnomaly.clients.ray_serve import Serving
    from adnomaly.clients.s3 import ObjectStore
    from adnomaly.clients.supervisord import Supervisor
    from adnomaly.incidents.service import IncidentService
    from adnomaly.monitoring.collector import StatusCollector
    from adnomaly.stores.alerts import AlertTopic
    from adnomaly.stores.bundles import BundleStore
    from adnomaly.stores.comparisons import ComparisonStore
    from adnomaly.stores.dead_letters import DeadLetters
    from adnomaly.stores.evidence import EvidenceStore
    from adnomaly.stores.incidents import IncidentStore
    from adnomaly.stores.lake import Lake
    from adnomaly.stores.lake_batch import LakeBatch
    from adnomaly.stores.lake_compaction import LakeCompaction
    from adnomaly.stores.model_health import ModelHistory
    from adnomaly.stores.notifications import Notifier
    from adnomaly.stores.offline_features import OfflineFeatures
    from adnomaly.stores.online_features import OnlineFeatures
    from adnomaly.stores.retention import Retention
    from adnomaly.stores.stream_health import StreamHealthStore
    from adnomaly.stores.windows import WindowStore
    from adnomaly.synthetic.traffic import Traffic


class Backends:
    """Clients and stores of one stack. Nothing connects before its first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def home(self) -> Home:
        return Home.of(self.settings)

    @cached_property
    def objects(self) -> "ObjectStore":
        from adnomaly.clients.s3 import ObjectStore

        s = self.settings
        return ObjectStore(
            s.s3_url,
            s.minio_access_key.get_secret_value(),
            s.minio_secret_key.get_secret_value(),
            s.minio_bucket,
            region=s.s3_region,
        )

    @cached_property
    def postgres(self) -> "Postgres":
        from adnomaly.clients.postgres import Postgres

        return Postgres(self.settings.postgres_url())

    @cached_property
    def lake(self) -> "Lake":
        from adnomaly.stores.lake import Lake

        return Lake(self.objects, self.postgres)

    @cached_property
    def flink(self) -> "Flink":
        from adnomaly.clients.flink import Flink

        folder = self.home.flink
        return Flink(
            self.settings.flink_url,
            flink_home=folder / "home",
            checkpoints=folder / "checkpoints",
        )

    @cached_property
    def lake_batch(self) -> "LakeBatch":
        from adnomaly.stores.lake_batch import LakeBatch

        return LakeBatch(self.flink, self.lake, f"s3://{self.settings.minio_bucket}/clicks")

    @cached_property
    def offline_features(self) -> "OfflineFeatures":
        from adnomaly.stores.offline_features import OfflineFeatures

        return OfflineFeatures(self.objects, mirror=self.home.offline_features)

    @cached_property
    def online_features(self) -> "OnlineFeatures":
        from adnomaly.stores.online_features import OnlineFeatures

        s = self.settings
        repo = ROOT / "include" / "feature_repo"
        return OnlineFeatures(
            repo,
            registry_url=s.postgres_url("feast"),
            redis_url=s.redis_url,
            mirror=self.offline_features.mirror,
        )

    @cached_property
    def window_store(self) -> "WindowStore":
        from adnomaly.stores.windows import WindowStore

        return WindowStore(self.postgres)

    @cached_property
    def incidents(self) -> "IncidentStore":
        from adnomaly.stores.incidents import IncidentStore

        return IncidentStore(self.postgres)

    @cached_property
    def incident_service(self) -> "IncidentService":
        from adnomaly.incidents.service import IncidentService

        return IncidentService(self.incidents)

    @cached_property
    def evidence(self) -> "EvidenceStore":
        from adnomaly.stores.evidence import EvidenceStore

        return EvidenceStore(self.postgres)

    @cached_property
    def alerts(self) -> "AlertTopic":
        from adnomaly.stores.alerts import AlertTopic

        return AlertTopic(self.settings.kafka_bootstrap, self.postgres)

    @cached_property
    def collector(self) -> "StatusCollector":
        from adnomaly.monitoring.collector import StatusCollector

        return StatusCollector(
            self.settings.kafka_bootstrap,
            self.postgres,
            self.supervisor,
            self.flink,
            self.settings.serving_url,
            self.home,
        )

    @cached_property
    def health(self) -> "StreamHealthStore":
        from adnomaly.stores.stream_health import StreamHealthStore

        return StreamHealthStore(self.postgres, self.settings.kafka_bootstrap)

    @cached_property
    def comparisons(self) -> "ComparisonStore":
        from adnomaly.stores.comparisons import ComparisonStore

        return ComparisonStore(self.postgres)

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from adnomaly.stores.dead_letters import DeadLetters

        return DeadLetters(self.settings.kafka_bootstrap, self.postgres)

    @cached_property
    def catalog(self) -> "ModelCatalog":
        from adnomaly.clients.mlflow_catalog import ModelCatalog

        return ModelCatalog(self.settings.mlflow_tracking_uri)

    @cached_property
    def model_history(self) -> "ModelHistory":
        from adnomaly.stores.model_health import ModelHistory

        return ModelHistory(self.postgres)

    @cached_property
    def lake_compaction(self) -> "LakeCompaction":
        from adnomaly.stores.lake_compaction import LakeCompaction

        return LakeCompaction(self.objects, self.postgres)

    @cached_property
    def retention(self) -> "Retention":
        from adnomaly.stores.retention import Retention

        return Retention(self.postgres)

    @cached_property
    def notifier(self) -> "Notifier":
        from adnomaly.stores.notifications import Notifier

        return Notifier(
            self.postgres, self.settings.alert_channels.get_secret_value(), self.incident_page
        )

    def incident_page(self, incident_id: str) -> str:
        """URL of the page of an incident."""
        page = f"{self.settings.airflow_url}/plugin/adnomaly/adnomaly/incidents"
        return f"{page}?id={quote(incident_id, safe='')}"

    @cached_property
    def registry(self) -> "Registry":
        from adnomaly.clients.mlflow import Registry

        return Registry(self.settings.mlflow_tracking_uri)

    @cached_property
    def serving(self) -> "Serving":
        from adnomaly.clients.ray_serve import Serving

        s = self.settings
        return Serving(
            s.ray_dashboard_url,
            s.serving_url,
            token=s.ray_auth_token.get_secret_value(),
            metrics=self.home.serving_metrics,
        )

    @cached_property
    def bundles(self) -> "BundleStore":
        from adnomaly.stores.bundles import BundleStore

        return BundleStore(self.home.bundles)

    @cached_property
    def traffic(self) -> "Traffic":
        """Synthetic traffic of the settings."""
        from adnomaly.synthetic.traffic import Traffic

        return Traffic.from_settings(self.settings)

    @cached_property
    def supervisor(self) -> "Supervisor":
        from adnomaly.clients.supervisord import Supervisor

        return Supervisor(self.home)

    def create_topics(self) -> None:
        """Create missing topics. Idempotent."""
        from adnomaly.clients.kafka.admin import create_topics

        create_topics(self.settings.kafka_bootstrap)


def connect(settings: Settings | None = None) -> Backends:
    """The backends of this process. Settings default to those of the environment."""
    return Backends(settings or load_settings())
