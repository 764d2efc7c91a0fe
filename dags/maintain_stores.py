"""
# Maintain the stores

Keeps tables and lake in shape: deletes what is older than it is kept (`RETENTION_DAYS`; windows and scores three times as long, incidents
and decisions for ever), and rewrites the small objects of past hours as one per partition.

- **Runs** every night at 03:45 UTC, and when triggered. *Really do it* off only says what would be done.
- **Reads** and **Writes** `clickstream_events`, `feature_aggregates`, `anomaly_results`, `stream_health`, `model_health`, `lake_objects`,
  `clicks/` and `features/` in S3.
- **Normal** seconds; some minutes for a million clicks. Live processes are never kept waiting: rows go in small batches.

**If it fails** clear the failed task: each step goes on where it stopped, and what a kill left half done is swept by the next run. While
a backfill reads the lake, nothing is rewritten; that is no failure.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import NIGHTLY, dag_arguments
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import maintain_stores as pipeline
from adnomaly.settings import load_settings
from adnomaly.wiring import connect

PARAMS = {
    "days": Param(
        load_settings().retention_days,
        type="integer",
        minimum=2,
        title="Days to keep",
        description_md="Of clicks; `RETENTION_DAYS` by default",
    ),
    "really": Param(
        True,
        type="boolean",
        title="Really do it",
        description_md="Off: the log says what would be done",
        section="Safety",
    ),
}


@dag(
    schedule=NIGHTLY,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("features", timeout=timedelta(minutes=30)),
)
def maintain_stores():
    @task
    def expire_rows(params, dag_run) -> dict[str, int]:
        return pipeline.expire_rows(connect().retention, **params, now=dag_run.run_after)

    @task
    def expire_lake(params, dag_run) -> dict[str, int]:
        return pipeline.expire_lake(
            connect().lake_compaction, connect().offline_features, **params, now=dag_run.run_after
        )

    @task
    def compact_lake(params, dag_run) -> int:
        return pipeline.compact_lake(
            connect().lake_compaction, really=params["really"], now=dag_run.run_after
        )

    expire_rows()
    expire_lake() >> compact_lake()


maintain_stores()
