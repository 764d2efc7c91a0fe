"""What one DAG leaves for the next: an update of one wakes the DAGs that are scheduled on it.

They have names and no URIs: to understand a URI, Airflow imports the clients of every provider, a second for each DAG file.
"""

from airflow.providers.apache.kafka.triggers.shared_stream import KafkaSharedStreamTrigger
from airflow.sdk import Asset, AssetWatcher

from adnomaly.topics import ALERTS_TOPIC

OFFLINE_FEATURES = Asset("adnomaly_offline_features", group="adnomaly")
"""Window features of whole days, in the lake and in Feast's mirror of it."""

DETECTOR = Asset("adnomaly_detector", group="adnomaly")
"""A model bundle that passed the promotion check."""

DRIFT = Asset("adnomaly_drift", group="adnomaly")
"""Inputs or scores have moved away from what the detector was trained on."""

ALERTS_CONNECTION = "kafka_alerts"
"""Airflow connection of the watcher; `stack.servers.airflow` defines it."""

ALERTS = Asset(
    "adnomaly_alerts",
    group="adnomaly",
    watchers=[
        AssetWatcher(
            name="topic",
            trigger=KafkaSharedStreamTrigger(
                topics=[ALERTS_TOPIC.name], kafka_config_id=ALERTS_CONNECTION, poll_timeout=1
            ),
        )
    ],
)
"""Messages of the topic `alerts`. An event only wakes: who is woken reads the topic from a watermark of its own."""
