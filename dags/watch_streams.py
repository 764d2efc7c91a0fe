"""
# Watch streams

Asks every five minutes whether what is meant to run does run and keeps up: states of the programs, the window job, lag of the sinks,
age of the newest window. What has fallen is started again.

- **Runs** every five minutes from the moment Airflow knows it. Streams that were stopped on purpose are left alone.
- **Reads** supervisord, Flink, Kafka's end offsets, `sink_offsets`, `feature_aggregates`. **Writes** nothing; starts programs.
- **Normal** a few seconds.

**If it fails** the message lists what is still wrong after the restart, one line each: a program that does not stay up (its log:
`make logs`), a sink that falls behind (is PostgreSQL or S3 slow or down? `make status`), windows that have stopped (does the generator
run? does the Flink job?). The next run asks again; there is nothing to clear.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import EVERY_FIVE_MINUTES, dag_arguments
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import watch_streams as pipeline
from adnomaly.wiring import connect

PARAMS = {
    "max_lag": Param(
        50_000, type="integer", minimum=1, title="Largest lag", description_md="Messages of `clickstream.valid` a sink may be behind"
    ),
    "max_age_s": Param(
        300, type="integer", minimum=60, title="Oldest newest window", description_md="Seconds since the end of the newest window"
    ),
}


@dag(
    schedule=EVERY_FIVE_MINUTES,
    params=PARAMS,
    doc_md=__doc__,
    is_paused_upon_creation=False,
    **dag_arguments("watch", retries=0, timeout=timedelta(minutes=4)),
)
def watch_streams():
    @task
    def restart_fallen() -> list[str]:
        return pipeline.restart_fallen(connect().supervisor)

    @task
    def check(params, dag_run) -> dict[str, str]:
        b = connect()
        return pipeline.check(b.supervisor, b.flink, b.sinks, b.window_store, **params, now=dag_run.run_after)

    restart_fallen() >> check()


watch_streams()
