"""Redis: Feast's online store."""

from importlib import metadata
from pathlib import Path
from typing import Final

from adnomaly.features import FEATURES
from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import Settings
from adnomaly.wiring import connect
from stack.servers.base import (
    Port,
    Preparation,
    Server,
    feast_variables,
    listens,
    write_private,
)

PORT: Final = Port("redis", DEFAULT_PORTS["redis"], "Redis")


def configuration(settings: Settings) -> str:
    """redis.conf: loopback only; every write reaches the append-only file within a second."""
    return (
        f'bind 127.0.0.1\nport {PORT.of(settings)}\ndir "{Home.of(settings).data("redis")}"\n'
        "appendonly yes\nappendfsync everysec\ndaemonize no\n"
    )


def _conf(settings: Settings) -> Path:
    return Home.of(settings).run / "redis.conf"


def _command(settings: Settings) -> list[str]:
    return ["redis-server", str(_conf(settings))]


def _prepare(settings: Settings) -> None:
    Home.of(settings).data("redis").mkdir(exist_ok=True)
    write_private(_conf(settings), configuration(settings))


def prepare_features(settings: Settings) -> None:
    """Apply the feature definitions to Feast's registry and the online store."""
    connect(settings).online_features.apply()


SERVERS = (
    Server(
        name="redis",
        command=_command,
        ready=listens(PORT),
        ports=(PORT,),
        prepare=_prepare,
        store=True,
    ),
)

PREPARATIONS = (
    Preparation(
        "feature definitions",
        ("databases", "redis"),
        prepare_features,
        inputs=lambda settings: (metadata.version("feast"), feast_variables(settings), FEATURES),
    ),
)
