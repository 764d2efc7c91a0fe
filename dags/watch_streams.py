"""
# Watch streams

Checks the whole path of a click every minute: processes, window job, consumer lag, freshness,
windows without a score, readiness of the scoring API. Restarts crashed programs, at most *Max
restarts* times in ten minutes; then gives them up and opens an incident.

- **Runs** every minute from the first start of Airflow. Streams that were stopped on purpose stay
  stopped.
- **Reads** supervisord, Kafka's offsets, PostgreSQL, Flink, `/readyz`. **Writes** `stream_health`,
  `ledger`, and an incident about a stage that stays red or was given up; starts and stops programs.
- **Normal** a few seconds. The page *Adnomaly* (menu) shows the same status, live.

**If it fails** the message lists the red stages, one line each, with the next step. Start a program
that was given up with `run_streams`, action start, after you fixed the cause: its last error is in
the message, its log is `make logs P=<program>`. The next run checks again; nothing needs to be
cleared.
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
        title="Maximum lag",
        description_md="Consumer lag of a stage, in messages",
    ),
    "max_age_s": Param(
        300,
        type="integer",
        minimum=60,
        title="Maximum age of the newest window",
        description_md="Seconds since its end",
    ),
    "max_restarts": Param(
        5,
        type="integer",
        minimum=0,
        maximum=50,
        title="Maximum restarts",
        description_md="Restarts of one program within ten minutes before it is given up",
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
            connect().supervisor, max_restarts=params["max_restarts"], now=dag_run.run_after
        )

    @task
    def check(params) -> dict[str, str]:
        b = connect()
        return pipeline.check(
            b.collector,
            b.health,
            b.incident_service,
            Limits(params["max_lag"], params["max_age_s"]),
        )

    restart_fallen() >> check()


watch_streams()
