"""
# Compare windows

Did the stream say what the lake says? Compares yesterday's `feature_aggregates` with the offline features of the same day, window by
window: counts equal, averages to 1e-9. Late clicks explain a difference, up to 1 % of the clicks; hours of generated history are left out.

- **Runs** daily at 01:30 UTC, an hour after the backfill it compares with.
- **Reads** `feature_aggregates` and offline features. **Writes** nothing; the result is the task's return value.
- **Normal** seconds.

**If it fails** the log lists the windows that differ. *missing* or *extra*: a consumer or the window job lost or doubled a window; look at
`publish_features` and the Flink job around that time. *differs*: the same window with other clicks; compare table and lake for it. When the
day has no offline windows, trigger `backfill_features` for it first, then clear the task. Retrying changes nothing: there are no retries.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import HOUR_AFTER, dag_arguments
from adnomaly_airflow.params import day, optional_day
from airflow.sdk import dag, task

from adnomaly.pipelines import compare_windows as pipeline
from adnomaly.wiring import connect

PARAMS = {"day": optional_day("Day")}


@dag(
    schedule=HOUR_AFTER,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("watch", retries=0, timeout=timedelta(minutes=15)),
)
def compare_windows():
    @task
    def compare(params, dag_run) -> dict[str, int]:
        return pipeline.run(
            day(params, "day", dag_run),
            connect().window_store,
            connect().offline_features,
            connect().lake,
        )

    compare()


compare_windows()
