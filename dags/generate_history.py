"""
# Generate history

Writes weeks of synthetic clicks to the lake, from the traffic model of the stream, so that training
is possible on the first day.

- **Runs** when triggered; `make demo` does it once.
- **Reads** nothing. **Writes** `clicks/dt=…/hr=…/` in the lake and its manifest `lake_objects`; its
  end to `run/history.json`.
- **Normal** one to two minutes for 21 days at 20 clicks per second.
- **Retry** is idempotent: the same hours are replaced by the same clicks. Hours that were sent live
  are left out.

**If it fails** trigger it again: finished hours are replaced, not doubled. `Unavailable` names the
server that does not answer: `make status`, then `make up`. An invalid form names the field.
"""

from datetime import timedelta

from adnomaly_airflow.defaults import dag_arguments
from adnomaly_airflow.params import ATTACK
from airflow.sdk import Param, dag, task

from adnomaly.wiring import connect

PARAMS = {
    "days": Param(
        1,
        type="number",
        exclusiveMinimum=0,
        maximum=366,
        title="Days",
        description_md="Length of the history; training needs 21. At 4 clicks a second 21 days are"
        " 7 million clicks in half a minute; at 120 a second 218 million, 12 GB in ten minutes",
    ),
    "end": Param(
        None,
        type=["null", "string"],
        title="End time",
        description_md="ISO 8601 or `-2h`, cut to the hour; empty: the last midnight UTC",
    ),
    "base_eps": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title="Clicks per second",
        description_md="Mean over a day; empty: that of the history that is there, else of"
        " `run_streams`, else `BASE_EPS`",
    ),
    "replace": Param(
        False,
        type="boolean",
        title="Replace another rate",
        description_md="On: overwrite hours that were generated at another rate",
        section="Safety",
    ),
    "attacks": Param(
        [],
        type="array",
        items={"type": "string", "pattern": ATTACK},
        title="Injected attacks",
        description_md="`kind:GEO:platform:start:duration[:strength]`, one per line",
    ),
}


@dag(
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("features", timeout=timedelta(minutes=30)),
)
def generate_history():
    @task
    def write_clicks(params, dag_run) -> int:
        # DAG files must not load numpy and pyarrow.
        from adnomaly.pipelines import generate_history as pipeline

        return pipeline.run(connect().lake, connect().settings, **params, now=dag_run.run_after)

    write_clicks()


generate_history()
