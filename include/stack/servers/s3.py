"""S3: SeaweedFS with its console; the buckets of the lake and of MLflow's artifacts."""

from typing import Final

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from stack.servers.base import Port, Server, Variables, answers

API: Final = Port("s3", DEFAULT_PORTS["s3"], "S3")
CONSOLE: Final = Port("s3-console", DEFAULT_PORTS["s3-console"], "S3 console")
MASTER: Final = Port("s3-master", 9333)
VOLUME: Final = Port("s3-volume", 9340)
FILER: Final = Port("s3-filer", 8889)


def _command(settings: Settings) -> list[str]:
    flags = {"s3": API, "admin": CONSOLE, "volume": VOLUME, "filer": FILER, "master": MASTER}
    return [
        "weed",
        "mini",
        f"-dir={Home.of(settings).data('s3')}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{flag}.port={port.of(settings)}" for flag, port in flags.items()),
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        f"-admin.password={settings.minio_secret_key.get_secret_value()}",
    ]


def credentials(settings: Settings) -> Variables:
    """Key of the only S3 user."""
    return {
        "AWS_ACCESS_KEY_ID": settings.minio_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.minio_secret_key.get_secret_value(),
    }


def _env(settings: Settings) -> Variables:
    return credentials(settings) | {"S3_BUCKET": f"{settings.minio_bucket},mlflow"}


def _client_env(settings: Settings) -> Variables:
    """For AWS' tools and SDKs, and what builds on them."""
    return credentials(settings) | {
        "AWS_ENDPOINT_URL": settings.s3_url,
        "AWS_DEFAULT_REGION": settings.s3_region,
        "MINIO_BUCKET": settings.minio_bucket,
    }


def _prepare(settings: Settings) -> None:
    Home.of(settings).data("s3").mkdir(exist_ok=True)


SERVERS = (
    Server(
        name="s3",
        command=_command,
        ready=answers(API, "/healthz"),
        ports=(API, CONSOLE, MASTER, VOLUME, FILER),
        env=_env,
        prepare=_prepare,
        store=True,
        client_env=_client_env,
    ),
)
