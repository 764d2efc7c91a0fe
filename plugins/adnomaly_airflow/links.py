"""Buttons on a task's page: Flink job, MLflow run, S3 prefix, scoring API."""

from typing import Any, ClassVar

from airflow.sdk import BaseOperatorLink

from adnomaly.settings import load_settings


def set_link(ti: Any, key: str, value: str) -> None:
    """Keep what a button needs.

    Tasks that defer call this in both of their parts, or an empty link replaces the good one.
    """
    ti.xcom_push(key=key, value=value)


def with_links(result: Any, *links: BaseOperatorLink) -> Any:
    """The result of a `@task`, whose page has these buttons."""
    result.operator.operator_extra_links = links
    return result


class _Link(BaseOperatorLink):
    """A link made of what the task has noted under `key`; no link before that."""

    key: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from airflow.providers.common.compat.sdk import XCom

        value = XCom.get_value(key=self.key, ti_key=ti_key)
        return self.url(value) if value else ""

    def url(self, value: str) -> str:
        raise NotImplementedError


class FlinkJobLink(_Link):
    name = "Flink job"
    key = "flink_job"

    def url(self, value: str) -> str:
        return f"{load_settings().flink_url}/#/job/running/{value}/overview"


class ServingLink(_Link):
    name = "Scoring API"
    key = "return_value"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return f"{load_settings().serving_url}/docs"


class MlflowRunLink(_Link):
    name = "MLflow run"
    key = "mlflow_run"

    def url(self, value: str) -> str:
        return f"{load_settings().mlflow_tracking_uri}/#/runs/{value}"


class S3Link(_Link):
    name = "S3 prefix"
    key = "s3_prefix"

    def url(self, value: str) -> str:
        s = load_settings()
        return f"{s.s3_console_url}/files?path=/buckets/{s.minio_bucket}/{value.rstrip('/')}"
