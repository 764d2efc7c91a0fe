"""
# Train the detector

Fits a detector on the offline features: a baseline per entity and hour, a residual forecast, an
Isolation Forest on the deviations, and thresholds for a budget of false incidents
(`ALERTS_PER_DAY`). Evaluates it on planted attacks against chance and reference detectors, seals it
as a bundle, registers it in MLflow, and makes it the champion if it passes the promotion gate.

- **Runs** when the offline features are updated, that is daily after the backfill, when
  `watch_model` finds drift, and when triggered.
- **Reads** offline features, and the champion to compare with. **Writes** a work folder
  `work/<run>/`, a run and a version in MLflow.
- **Normal** two to four minutes for 21 days; the last quarter of them sets the thresholds.
- **Retry** is idempotent: equal data and seed give an equal bundle. Updates the asset *detector*,
  which triggers `deploy_detector`; that does nothing if the champion is the same.

**If it fails** clear the failed task. `NotEnoughHistory` names the empty hours: backfill more days,
or set fewer days in the form. `BundleRejected` in `fit`: the ONNX export differs from its forest;
keep the work folder. If `promote_if_better` returns false, that is a result and no failure: every
check with its value and limit is in the task's log, and in MLflow as `decision.txt` of the run.
"""

from datetime import timedelta

from adnomaly_airflow.assets import DETECTOR, DRIFT, OFFLINE_FEATURES
from adnomaly_airflow.defaults import dag_arguments
from adnomaly_airflow.links import MlflowRunLink, set_link, with_links
from adnomaly_airflow.params import instant, work_folder
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import train_detector as pipeline
from adnomaly.wiring import connect

PARAMS = {
    "train_days": Param(
        pipeline.TRAIN_DAYS, type="number", exclusiveMinimum=0, title="Training days"
    ),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="End time",
        description_md="Empty: the newest window",
    ),
}


@dag(
    schedule=OFFLINE_FEATURES | DRIFT,
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("model", timeout=timedelta(minutes=20)),
)
def train_detector():
    @task
    def take_sample(params, dag_run) -> str:
        b = connect()
        return pipeline.take_sample(
            b.offline_features,
            work_folder(b.home, dag_run),
            seed=b.settings.seed,
            budget_per_day=b.settings.alerts_per_day,
            until=instant(params, "until"),
            train_days=params["train_days"],
        )

    @task
    def fit(folder: str) -> str:
        return pipeline.fit(folder)

    @task
    def evaluate(folder: str) -> str:
        return pipeline.evaluate(folder, connect().traffic)

    @task
    def seal(folder: str) -> str:
        return pipeline.seal(folder)

    @task
    def register(folder: str, ti) -> str:
        set_link(ti, MlflowRunLink.key, pipeline.register(folder, connect().registry))
        return folder

    @task(outlets=[DETECTOR])
    def promote_if_better(folder: str) -> bool:
        return pipeline.promote_if_better(folder, connect().registry)

    registered = with_links(register(seal(evaluate(fit(take_sample())))), MlflowRunLink())
    promote_if_better(registered)


train_detector()
