"""
# Watch streams

Looks at the whole path of a click every minute: processes, the window job, lag, freshness, windows without a score, readiness of the
scoring API. What has fallen is started again, at most *Most restarts* times in ten minutes; then it is given up and becomes an incident.

- **Runs** every minute from the moment Airflow knows it. Streams that were stopped on purpose are left alone.
- **Reads** supervisord, Kafka's offsets, PostgreSQL, Flink, `/readyz`. **Writes** `stream_health`, `ledger`, and an incident about what
  stays red or was given up; starts and stops programs.
- **Normal** a few seconds. The page *Adnomaly* (menu) shows the same, live.

**If it fails** the message lists what is red, one line each, with the next step. A program that was given up is started again by
`run_streams`, action start, after its cause is repaired: its last words are in the message, its log is `make logs P=<program>`. The next
run asks again; there is nothing to clear.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import EVERY_MINUTE, dag_arguments
from airflow.sdk import Param, dag, task

from adnomaly.monitoring.stages import Limits
from adnomaly.pipelines import watch_streams as pipeline
from adnomaly.wiring import connect

PARAMS = {
    "max_lag": Param(
        50_000,
        type="integer",
        minimum=1,
        title="Largest lag",
        description_md="Messages that may wait before a stage",
    ),
    "max_age_s": Param(
        300,
        type="integer",
        minimum=60,
        title="Oldest newest window",
        description_md="Seconds since the end of the newest window",
    ),
    "max_restarts": Param(
        5,
        type="integer",
        minimum=0,
        maximum=50,
        title="Most restarts",
        description_md="Of one program within ten minutes, before it is given up",
    ),
}


@dag(
    schedule=EVERY_MINUTE,
    params=PARAMS,
    doc_md=__doc__,
    is_paused_upon_creation=False,
    **dag_arguments("watch", retries=0, timeout=timedelta(minutes=2)),
)
def watch_streams():
    @task
    def restart_fallen(params, dag_run) -> dict[str, list[str]]:
        return pipeline.restart_fallen(
            connect().supervisor, most=params["max_restarts"], now=dag_run.run_after
        )

    @task
    def check(params) -> dict[str, str]:
        b = connect()
        return pipeline.check(
            b.collector, b.health, b.incidents, Limits(params["max_lag"], params["max_age_s"])
        )

    restart_fallen() >> check()


watch_streams()
