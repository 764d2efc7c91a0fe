"""
# Watch the model

Measures whether the deployed detector still fits the traffic: drift of its inputs (deviations from
the expected values, per feature) and scores of the last day against its training days, and
unconfirmed incidents against the budget of false ones.

- **Runs** every hour at 17 past, and when triggered.
- **Reads** `anomaly_results`, `incidents`, offline features of the training days, the bundle.
  **Writes** `model_health`, shown on the page *Adnomaly*, *Model*; `drift/<version>.json` once per
  version. Updates the asset *drift*, which triggers `train_detector`, if something drifted and the
  newest model is older than 20 hours.
- **Normal** seconds; half a minute for the first time after a deployment. A skipped
  `ask_for_training` means that there is nothing to do.

**If it fails** `NotEnoughHistory` says what is missing: no detector is deployed (run
`deploy_detector`), or the offline features of its training days are gone (run `backfill_features`
for them, or train again). Scoring continues; the next run measures again.
"""

from datetime import timedelta

from adnomaly_airflow.assets import DRIFT
from adnomaly_airflow.defaults import HOURLY, dag_arguments
from airflow.sdk import dag, task

from adnomaly.wiring import connect


@dag(
    schedule=HOURLY,
    doc_md=__doc__,
    **dag_arguments("model", "watch", timeout=timedelta(minutes=10)),
)
def watch_model():
    @task
    def measure(dag_run) -> list[str]:
        # DAG files must not load numpy.
        from adnomaly.pipelines import watch_model as pipeline

        b = connect()
        return pipeline.measure(
            b.model_history,
            b.offline_features,
            b.home,
            budget_per_day=b.settings.alerts_per_day,
            now=dag_run.run_after,
        )

    @task.short_circuit
    def is_training_worth_it(moved: list[str], dag_run) -> bool:
        from adnomaly.pipelines import watch_model as pipeline

        return pipeline.should_train(moved, connect().catalog.newest(), dag_run.run_after)

    @task(outlets=[DRIFT])
    def ask_for_training() -> None:
        """Update the asset."""

    is_training_worth_it(measure()) >> ask_for_training()


watch_model()
