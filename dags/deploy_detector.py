"""
# Deploy the detector

Brings the champion of the registry to the service: fetches and verifies its bundle, rolls it out on Ray Serve
without a failed request, names it in `bundles/CURRENT`, and asks the service which version answers.

- **Runs** when a detector was trained, and when triggered. Changes nothing while the champion is served already.
- **Reads** the champion in MLflow. **Writes** `bundles/<version>/` and `bundles/CURRENT`; keeps the five newest bundles.
- **Normal** half a minute when scoring has to start, seconds for a new version.
- **Back** to the champion before: `make rollback`.

**If it fails** what was served is served on. `NotEnoughHistory`: no model was promoted yet, run `train_detector`. `BundleRejected`: the bundle
is not what was sealed, or its sentinels fail; train again. `JobFailed`: Ray did not start the application; its reason is in the Ray dashboard
(menu Browse) and in `logs/ray.log`. Then clear the failed task.
"""

from datetime import timedelta

from adnomaly_airflow.assets import DETECTOR
from adnomaly_airflow.defaults import dag_arguments
from airflow.sdk import dag, task

from adnomaly.pipelines import deploy_detector as pipeline
from adnomaly.wiring import connect


@dag(schedule=[DETECTOR], doc_md=__doc__, **dag_arguments("model", timeout=timedelta(minutes=10)))
def deploy_detector():
    @task
    def fetch() -> str:
        return pipeline.fetch(connect().registry, connect().home)

    @task
    def roll_out(version: str) -> str:
        return pipeline.roll_out(connect().serving, connect().home, version)

    @task
    def verify(version: str) -> str:
        return pipeline.verify(connect().serving, connect().home, version)

    verify(roll_out(fetch()))


deploy_detector()
