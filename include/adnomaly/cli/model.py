"""`python -m stack model ...`: the steps of training from the command line; each goes on from the files of the one before."""

import logging
from datetime import UTC, datetime

import typer

from adnomaly.pipelines import deploy_detector, train_detector
from adnomaly.wiring import Backends, connect

app = typer.Typer(no_args_is_help=True, help=__doc__)

FOLDER = "command-line"


@app.command("build-ds")
def build_ds(train_days: float = train_detector.TRAIN_DAYS) -> None:
    """Copy the windows to learn from."""
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
    """Fit the detector, find its limits, and compare its export with the forests."""
    folder = train_detector.fit(str(_backends().home.work / FOLDER))
    print(f"detector in {folder}. Next: make eval-model")


@app.command("eval-model")
def eval_model() -> None:
    """Judge it on planted attacks, beside chance, always-on and simple rules."""
    b = _backends()
    folder = train_detector.evaluate(str(b.home.work / FOLDER), b.traffic)
    print(f"evaluation and plots in {folder}. Next: make export-onnx")


@app.command("export-onnx")
def export_onnx() -> None:
    """Seal the bundle, register it, and let the promotion check decide."""
    b = _backends()
    folder = train_detector.seal(str(b.home.work / FOLDER))
    train_detector.register(folder, b.registry)
    promoted = train_detector.promote_if_better(folder, b.registry)
    print(
        "champion. Next: trigger deploy_detector in Airflow"
        if promoted
        else "not promoted: the checks above, and decision.txt of the run in MLflow, say why"
    )


@app.command()
def rollback() -> None:
    """Serve the champion before this one again."""
    b = _backends()
    print(
        f"now serving {deploy_detector.rollback(b.registry, b.serving, b.bundles, b.model_history, now=datetime.now(UTC))}"
    )


def _backends() -> Backends:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return connect()
