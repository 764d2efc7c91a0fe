"""What one DAG leaves for the next: an update of one wakes the DAGs that are scheduled on it."""

from airflow.sdk import Asset

OFFLINE_FEATURES = Asset("adnomaly_offline_features", uri="adnomaly://offline/features", group="adnomaly")
"""Window features of whole days, in the lake and in Feast's mirror of it."""

DETECTOR = Asset("adnomaly_detector", uri="adnomaly://registry/champion", group="adnomaly")
"""A model bundle that passed the promotion check."""
