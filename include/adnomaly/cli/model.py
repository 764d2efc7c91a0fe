"""`python -m stack model ...`: the training steps, each continuing from the files of the last."""

import logging
from datetime import UTC, datetime

import typer

from adnomaly.pipelines import deploy_detector, train_detector
from adnomaly.wiring import Backends, connect

app = typer.Typer(no_args_is_help=True, help=__doc__)

FOLDER = "command-line"


@app.command("build-ds")
def build_ds(train_days: float = train_detector.TRAIN_DAYS) -> None:
    """Copy the training windows."""
    b = _backends()
    b.offline_features.sync()
    folder = train_detector.take_sample(
        b.offline_features,
        b.home.work / FOLDER,
        seed=b.settings.seed,
        budget_per_day=b.settings.alerts_per_day,
        train_days=train_days,
    )
    print(f"training set in {folder}. Next: make train-model")


@app.command("train-model")
def train_model() -> None:
    """Fit the detector, choose its thresholds and verify its ONNX exports."""
    folder = train_detector.fit(str(_backends().home.work / FOLDER))
    print(f"detector in {folder}. Next: make eval-model")


@app.command("eval-model")
def eval_model() -> None:
    """Evaluate it on planted attacks, against reference detectors."""
    b = _backends()
    folder = train_detector.evaluate(str(b.home.work / FOLDER), b.traffic)
    print(f"evaluation and plots in {folder}. Next: make export-onnx")


@app.command("export-onnx")
def export_onnx() -> None:
    """Seal the bundle, register it and run the promotion gate."""
    b = _backends()
    folder = train_detector.seal(str(b.home.work / FOLDER))
    train_detector.register(folder, b.registry)
    promoted = train_detector.promote_if_better(folder, b.registry)
    print(
        "champion. Next: trigger deploy_detector in Airflow"
        if promoted
        else "not promoted: see the checks above, or decision.txt of the run in MLflow"
    )


@app.command()
def rollback() -> None:
    """Serve the previous champion again."""
    b = _backends()
    version = deploy_detector.rollback(
        b.registry, b.serving, b.bundles, b.model_history, now=datetime.now(UTC)
    )
    print(f"now serving {version}")


def _backends() -> Backends:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return connect()
