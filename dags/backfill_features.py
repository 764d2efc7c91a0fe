"""
# Backfill features

Flink runs the window SQL of the stream in batch over the lake, late clicks included. The result
replaces the offline features of the day and corrects the online features.

- **Runs** daily at 00:30 UTC for the previous day. Trigger it with *First day* and *Last day* for a
  range, which is one Flink job.
- **Reads** the lake by its manifest. **Writes** `features/dt=…/` in S3, the mirror of it, and the
  newest windows online.
- **Normal** about one minute for a day, four to seven for 21 days. The stream continues meanwhile.
- **Retry** is idempotent: equal data gives equal bytes, and a killed task finds its Flink job
  again. Updates the asset *offline features*, which triggers `train_detector`.

**If it fails** clear the failed task: each step replaces its own output. If `compute_windows`
fails, read Flink's exceptions (menu Browse, Flink): without a free slot a TaskManager is missing
(`make up`). `Unavailable` names the server that does not answer. A day without clicks is no
failure; the log says so.
"""

from datetime import timedelta

from adnomaly_airflow.assets import OFFLINE_FEATURES
from adnomaly_airflow.defaults import DAY_AFTER, dag_arguments
from adnomaly_airflow.links import S3Link, set_link, with_links
from adnomaly_airflow.operators import FlinkSqlJob
from adnomaly_airflow.params import day, instant, optional_day
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import backfill_features as pipeline
from adnomaly.wiring import connect

PARAMS = {
    "first_day": optional_day("First day"),
    "last_day": optional_day("Last day"),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="End time",
        description_md="Windows must not end later",
    ),
}


def span_of_run(params, dag_run) -> pipeline.Span:
    """The windows of this run."""
    return pipeline.span_of(
        day(params, "first_day", dag_run),
        day(params, "last_day", dag_run),
        now=dag_run.run_after,
        until=instant(params, "until"),
    )


@dag(
    schedule=DAY_AFTER,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("features", timeout=timedelta(minutes=30)),
)
def backfill_features():
    def window_batch(context) -> object:
        return pipeline.window_batch(
            connect().lake_batch,
            connect().offline_features,
            span_of_run(context["params"], context["dag_run"]),
        )

    def computed(context) -> str:
        span, b = span_of_run(context["params"], context["dag_run"]), connect()
        b.lake_batch.release(b.offline_features.url(span.prefix))
        return span.prefix

    compute_windows = FlinkSqlJob(
        task_id="compute_windows",
        script=window_batch,
        finish=computed,
        doc_md="Compute the windows of all days in one Flink batch job.",
    )

    @task(outlets=[OFFLINE_FEATURES])
    def write_days(prefix: str, params, dag_run, ti) -> dict[str, str]:
        offline = connect().offline_features
        set_link(ti, S3Link.key, offline.prefix)
        return pipeline.write_days(offline, span_of_run(params, dag_run), prefix)

    @task
    def load_online(params, dag_run) -> int:
        return pipeline.load_online(
            connect().offline_features, connect().online_features, span_of_run(params, dag_run)
        )

    with_links(write_days(compute_windows.output), S3Link()) >> load_online()


backfill_features()
