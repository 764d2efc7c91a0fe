"""
# Run streams

Starts, stops or shows the always-on processes: validation, consumers, window job, scoring,
generator. supervisord runs and restarts them. Readers start before writers, the generator last.

- **Runs** when triggered. *Action* is start, stop or status.
- **Reads** supervisord and Flink. **Writes** missing topics and tables, and the generator's plan
  `truth/plan.json`.
- **Normal** half a minute to start. Idempotent: running processes stay, a new attack is planted
  within a minute of event time.
- **Scoring** starts only with a bundle to serve; run `deploy_detector` first.

**If it fails** the message names the program and its state. Its log: `make logs`, or
`.adnomaly/logs/<program>.log`. *FATAL* means that it crashed repeatedly at start: fix the cause,
trigger again. If `await_window_job` times out, read Flink's exceptions (menu Browse, Flink). No
cleanup is needed.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import dag_arguments
from adnomaly_airflow.operators import AwaitWindowJob, StartPrograms
from adnomaly_airflow.params import ATTACK
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import run_streams as pipeline
from adnomaly.wiring import connect

PARAMS = {
    "action": Param("start", enum=["start", "stop", "status"], title="Action"),
    "begin": Param(
        None,
        type=["null", "string"],
        title="Start time",
        description_md="ISO 8601 or `-2h`; empty: the end of the last run, or now",
        section="Generator",
    ),
    "attacks": Param(
        [],
        type="array",
        items={"type": "string", "pattern": ATTACK},
        title="Injected attacks",
        description_md="`kind:GEO:platform:start:duration[:strength]`, one per line,"
        " such as `click_flood:DE:ios:+1m:10m`",
        section="Generator",
    ),
    "base_eps": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title="Clicks per second",
        description_md="Mean over a day, instead of `BASE_EPS` until that setting changes;"
        " empty: unchanged",
        section="Generator",
    ),
}


@dag(
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("streams", timeout=timedelta(minutes=10)),
)
def run_streams():
    @task.branch
    def choose(params) -> str:
        return {"start": "prepare", "stop": "stop_streams", "status": "status"}[params["action"]]

    @task
    def prepare(params, dag_run) -> list[str]:
        b, plan = connect(), {name: params[name] for name in ("begin", "attacks", "base_eps")}
        return pipeline.prepare(
            b.settings, [b.create_topics, b.postgres.migrate], **plan, now=dag_run.run_after
        )

    @task
    def stop_streams() -> list[str]:
        return pipeline.stop_streams(connect().supervisor)

    @task(trigger_rule="none_failed_min_one_success")
    def status() -> dict[str, str]:
        return pipeline.status(connect().supervisor)

    chosen, ready, shown = choose(), prepare(), status()
    consumers = StartPrograms(task_id="start_consumers", programs=list(pipeline.CONSUMERS))
    writers = StartPrograms(task_id="start_scoring_and_generator", programs=ready)
    # Last: the window job starts with the first click.
    job = AwaitWindowJob(task_id="await_window_job")

    chosen >> [ready, stop_streams(), shown]
    ready >> consumers >> writers >> job >> shown


run_streams()
