"""Assets: an update of one triggers the DAGs that are scheduled on it.

They have names and no URIs: for a URI, Airflow imports the clients of every provider, which costs a
second per DAG file.
"""

from airflow.providers.apache.kafka.triggers.shared_stream import KafkaSharedStreamTrigger
from airflow.sdk import Asset, AssetWatcher

from adnomaly.topics import ALERTS_TOPIC

OFFLINE_FEATURES = Asset("adnomaly_offline_features", group="adnomaly")
"""Window features of whole days, in S3 and in the mirror."""

DETECTOR = Asset("adnomaly_detector", group="adnomaly")
"""A bundle that passed the promotion gate."""

DRIFT = Asset("adnomaly_drift", group="adnomaly")
"""Inputs or scores have drifted from the training data."""

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
"""Messages of the topic `alerts`. An event only triggers a run, which reads from its offsets."""
