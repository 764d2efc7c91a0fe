"""
# Compare windows

Compares `feature_aggregates`, written by the stream, with the offline features of the previous day,
window by window: counts equal, averages within 1e-9. Late clicks may explain differences, up to 1 %
of the clicks. Hours of generated history are excluded.

- **Runs** daily at 01:30 UTC, an hour after the backfill.
- **Reads** `feature_aggregates` and offline features. **Writes**
  `window_comparisons`; the result is the task's return value, too.
- **Normal** seconds. *Skipped* when nothing could be compared; the log has the reason, and the page
  *Now* shows it. Three skipped days in a row are a failure.

**If it fails** the log lists the windows that differ. *missing* or *extra*: the publisher or the
window job lost or doubled a window; check both stages at that time. *differs*: the same window has
other clicks; compare table and lake for it. If the day has no offline windows, trigger
`backfill_features` for it, then clear the task. There are no retries, as they change nothing.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import HOUR_AFTER, dag_arguments
from adnomaly_airflow.params import day, optional_day
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from adnomaly.errors import NothingCompared
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
        b, of = connect(), day(params, "day", dag_run)
        try:
            return pipeline.run(
                of,
                b.window_store,
                b.offline_features,
                b.lake,
                b.comparisons,
                now=dag_run.run_after,
            )
        except NothingCompared as reason:
            raise AirflowSkipException(str(reason)) from None

    compare()


compare_windows()
