"""
# Maintain the stores

Deletes expired rows and objects (`RETENTION_DAYS`; windows and scores three times as long;
incidents and decisions never), and compacts the small objects of past hours in the lake.

- **Runs** every night at 03:45 UTC, and when triggered. *Apply changes* off: a dry run that only
  logs.
- **Reads** and **Writes** `clickstream_events`, `feature_aggregates`, `anomaly_results`,
  `stream_health`, `model_health`, `lake_objects`, `clicks/` and `features/` in S3.
- **Normal** seconds; some minutes for a million clicks. Rows are deleted in small batches, so
  streams do not wait.

**If it fails** clear the failed task: each step continues where it stopped, and the next run cleans
up after a kill. While a backfill reads the lake, nothing is compacted; that is no failure.
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
        title="Retention (days)",
        description_md="Days of clicks; `RETENTION_DAYS` by default",
    ),
    "really": Param(
        True,
        type="boolean",
        title="Apply changes",
        description_md="Off: dry run, see the log",
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
