"""The MLflow model registry: runs with metrics and plots, versions with bundles, aliases."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from adnomaly.errors import Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL: Final = "adnomaly-detector"
EXPERIMENT: Final = "adnomaly-detector"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PREVIOUS: Final = "previous"
"""The champion before this one: the target of a rollback."""

_BUNDLE: Final = "bundle"
_TAG: Final = "bundle_version"


class Registered(NamedTuple):
    """A registered model version: its number, its run, and the version of its bundle."""

    number: str
    run_id: str
    bundle: str


class Registry:
    """One model in one MLflow. Every method raises Unavailable while MLflow cannot be reached."""

    def __init__(self, tracking_uri: str, *, model: str = MODEL) -> None:
        self._uri, self._model = tracking_uri, model

    def register(
        self,
        name: str,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Path,
        bundle: Path,
        source: str,
    ) -> Registered:
        """Log a run with parameters, metrics and the files of a folder; register its bundle as the
        challenger.

        Idempotent: the same bundle from the same source is registered once.

        Args:
            source: origin of this registration, such as the id of a DAG run.
        """
        with self._client() as client:
            self._create_model(client)
            for known in client.search_model_versions(
                f"name = '{self._model}' and tags.source = '{source}'"
            ):
                if known.tags.get(_TAG) == bundle.name:
                    return _registered(known)
            run = client.create_run(
                self._experiment(client), run_name=name, tags={_TAG: bundle.name, "source": source}
            )
            run_id = run.info.run_id
            for key, value in params.items():
                client.log_param(run_id, key, value)
            for key, number in metrics.items():
                client.log_metric(run_id, key, number)
            client.log_artifacts(run_id, str(files), "evaluation")
            client.log_artifacts(run_id, str(bundle), f"{_BUNDLE}/{bundle.name}")
            client.set_terminated(run_id)
            place, tags = (
                f"{run.info.artifact_uri}/{_BUNDLE}/{bundle.name}",
                {_TAG: bundle.name, "source": source},
            )
            version = client.create_model_version(
                self._model, place, run_id, tags=tags, await_creation_for=0
            )
            client.set_registered_model_alias(self._model, CHALLENGER, version.version)
            return _registered(version)

    def champion(self) -> Registered | None:
        """The model to serve; None before the first promotion."""
        return self._alias(CHAMPION)

    def challenger(self) -> Registered | None:
        """The model that was registered last and is not promoted."""
        return self._alias(CHALLENGER)

    def find(self, bundle: str) -> Registered | None:
        """The newest registration of a bundle."""
        with self._client() as client:
            versions = client.search_model_versions(
                f"name = '{self._model}' and tags.{_TAG} = '{bundle}'"
            )
        return max((_registered(v) for v in versions), key=lambda r: int(r.number), default=None)

    def promote(self, registered: Registered) -> None:
        """Make it the champion and set `previous`, unless it has the same bundle. Idempotent."""
        current, challenger = self.champion(), self.challenger()
        with self._client() as client:
            if current and current.bundle != registered.bundle:
                client.set_registered_model_alias(self._model, PREVIOUS, current.number)
            client.set_registered_model_alias(self._model, CHAMPION, registered.number)
            if challenger and challenger.number == registered.number:
                client.delete_registered_model_alias(self._model, CHALLENGER)

    def previous(self) -> Registered | None:
        """The champion before this one."""
        return self._alias(PREVIOUS)

    def record_decision(
        self, registered: Registered, tags: Mapping[str, str], text: str, files: Mapping[str, bytes]
    ) -> None:
        """Set tags and the description of a model version, and add files to its run."""
        with self._client() as client, tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            client.log_artifacts(registered.run_id, folder)
            for key, value in tags.items():
                client.set_model_version_tag(self._model, registered.number, key, value)
            client.update_model_version(self._model, registered.number, text)

    def download(self, registered: Registered, to: Path) -> Path:
        """Copy its bundle below `to`; returns the bundle's folder, unverified."""
        with self._client() as client:
            return Path(
                client.download_artifacts(
                    registered.run_id, f"{_BUNDLE}/{registered.bundle}", str(to)
                )
            )

    def _alias(self, alias: str) -> Registered | None:
        from mlflow.exceptions import MlflowException

        with self._client() as client:
            try:
                return _registered(client.get_model_version_by_alias(self._model, alias))
            except MlflowException as error:
                # INVALID_PARAMETER_VALUE: the alias is not set. RESOURCE_DOES_NOT_EXIST: no such
                # model.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def _create_model(self, client: "MlflowClient") -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(
                self._model,
                description="Isolation Forest on residuals of traffic windows, sealed as ONNX",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _experiment(self, client: "MlflowClient") -> str:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)

    @contextlib.contextmanager
    def _client(self) -> "Iterator[MlflowClient]":
        import requests
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            yield MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        except requests.RequestException as error:
            raise Unavailable(f"MLflow at {self._uri} does not answer: {error}") from None
        except MlflowException as error:
            if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
                raise Unavailable(f"MLflow at {self._uri}: {str(error)[:300]}") from None
            raise


def _registered(version: Any) -> Registered:
    return Registered(str(version.version), version.run_id, version.tags.get(_TAG, ""))
