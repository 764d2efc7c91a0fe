"""MLflow: the model registry, with metadata in PostgreSQL and artifacts in S3."""

from typing import Final

from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from stack.servers import s3
from stack.servers.base import Port, Server, Variables, answers

PORT: Final = Port("mlflow", DEFAULT_PORTS["mlflow"], "MLflow UI")


def _command(settings: Settings) -> list[str]:
    store = settings.postgres_url("mlflow").replace("postgresql://", "postgresql+psycopg2://", 1)
    listen = ["--host", "127.0.0.1", "--port", str(PORT.of(settings)), "--workers", "1"]
    artifacts = ["--artifacts-destination", "s3://mlflow/artifacts"]
    return ["mlflow", "server", *listen, "--backend-store-uri", store, *artifacts]


def _env(settings: Settings) -> Variables:
    return s3.credentials(settings) | {
        "MLFLOW_S3_ENDPOINT_URL": settings.s3_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "AWS_DEFAULT_REGION": settings.s3_region,
    }


def _client_env(settings: Settings) -> Variables:
    return {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}


SERVERS = (
    Server(
        name="mlflow",
        command=_command,
        ready=answers(PORT, "/health"),
        ports=(PORT,),
        env=_env,
        needs=("databases", "postgres", "s3"),
        client_env=_client_env,
    ),
)
