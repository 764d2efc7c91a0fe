"""
# Deploy the detector

Deploys the champion of the registry: fetches and verifies its bundle, rolls it out on Ray Serve
without a failed request, names it in `bundles/CURRENT`, and verifies the served version.

- **Runs** when a detector was trained, and when triggered. Does nothing if the champion is served
  already.
- **Reads** the champion in MLflow. **Writes** `bundles/<version>/` and `bundles/CURRENT`; keeps the
  five newest bundles; `deployments`.
- **Normal** half a minute when scoring has to start, seconds for a new version.
- **Rollback** to the previous champion: *Model version* = previous, or *Roll back* on the page
  *Adnomaly*, or `make rollback`.
- **Approval** by a person if *Require approval* is set (`DEPLOY_APPROVAL=true` makes it the
  default): *Required Actions* on Airflow's home page. A rejected deployment is skipped; the served
  version stays.

**If it fails** the served version stays. `NotEnoughHistory`: no model was promoted yet; run
`train_detector`. `BundleRejected`: the bundle was changed, or its sentinels fail; train again.
`JobFailed`: Ray did not start the application; the reason is in the Ray dashboard (menu Browse) and
in `logs/ray.log`. Then clear the failed task.
"""

from datetime import timedelta

from adnomaly_airflow.assets import DETECTOR
from adnomaly_airflow.defaults import dag_arguments
from adnomaly_airflow.operators import ServeRollout
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, task

from adnomaly.pipelines import deploy_detector as pipeline
from adnomaly.settings import load_settings
from adnomaly.wiring import connect

PARAMS = {
    "which": Param(
        "champion",
        enum=["champion", "previous"],
        title="Model version",
        description_md="`previous` deploys and promotes the previous champion",
    ),
    "approval": Param(
        load_settings().deploy_approval,
        type="boolean",
        title="Require approval",
        description_md="The run waits for an answer in *Required Actions*, at most a day",
        section="Safety",
    ),
}


@dag(
    schedule=[DETECTOR],
    params=PARAMS,
    doc_md=__doc__,
    **dag_arguments("model", timeout=timedelta(minutes=10), waits=timedelta(days=1)),
)
def deploy_detector():
    @task
    def fetch(params) -> str:
        return pipeline.fetch(connect().registry, connect().bundles, params["which"])

    @task.branch
    def ask_first(params) -> str:
        return "approve" if params["approval"] else "roll_out"

    version = fetch()
    approve = ApprovalOperator(
        task_id="approve",
        subject="May the detector {{ ti.xcom_pull(task_ids='fetch') }} go live?",
        body="Compare its metrics with those of the live model on the page *Adnomaly*, *Model*."
        " The result of its promotion gate is `decision.txt` of its run in MLflow.",
        response_timeout=timedelta(days=1),
        doc_md="Wait for approval, if requested.",
    )
    roll_out = ServeRollout(
        task_id="roll_out",
        version=version,
        trigger_rule="none_failed_min_one_success",
        doc_md="Deploy the bundle replica by replica, then name it in `CURRENT`.",
    )

    @task
    def verify(version: str, params, dag_run) -> str:
        b = connect()
        pipeline.verify(b.serving, b.bundles, version)
        if params["which"] == "previous":
            pipeline.promote(b.registry, version)
        pipeline.record(b.model_history, version, dag_run.run_id, dag_run.run_after)
        return version

    chosen = ask_first()
    version >> chosen >> [approve, roll_out]
    approve >> roll_out
    verify(roll_out.output)


deploy_detector()
