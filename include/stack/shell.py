"""The environment that `make env` prints, for a shell on this stack."""

from adnomaly.settings import ROOT, Settings
from stack.servers import SERVERS
from stack.servers.base import Variables, common_env


def shell(settings: Settings) -> Variables:
    """Variables with which psql, feast, flink, ray and mlflow use this stack.

    Airflow is the exception: `airflow dags test` uses a metadata database of its own.
    """
    env = common_env(settings)
    for server in SERVERS:
        env |= server.client_env(settings)
    programs = [str(s.client_programs(settings)) for s in SERVERS if s.client_programs]
    return env | {
        "PATH": ":".join([env["PATH"], *programs]),
        "FEAST_FS_YAML_FILE_PATH": str(ROOT / "include" / "feature_repo" / "feature_store.yaml"),
    }
