"""Default ports of the servers that clients connect to. PORT_OFFSET is added to each."""

from typing import Final

DEFAULT_PORTS: Final = {
    "kafka": 29092,
    "postgres": 5433,
    "redis": 6390,
    "s3": 9000,
    "s3-console": 9001,
    "jobmanager": 8081,
    "ray": 8265,
    "mlflow": 5000,
    "api-server": 8088,
    "serving": 8080,
    "scorer-metrics": 9108,
}
"""Other ports stand in their server's file, below `stack/servers/`."""
