"""MLflow's files in a bucket: sent there from here, and taken away with the version they are of."""

import uuid
from pathlib import Path

import boto3
import pytest

from tests.s3_server import keys, s3_client
from theta_ml.registry.files import lost_copy
from theta_ml.registry.retention import Leaving, _forget
from theta_ml.settings import Settings, SettingsError
from theta_ml.tracking import client, mlflow_answers, retraining_run


@pytest.fixture
def settings(mlflow_uri: str, database_url: str, bucket: str, tmp_path: Path) -> Settings:
    """The MLflow server was started before anybody named a bucket, and has no credentials."""
    name = f"straight-{uuid.uuid4().hex[:8]}"
    return Settings(
        home=tmp_path,
        database_url=database_url,  # type: ignore[arg-type]
        mlflow_tracking_uri=mlflow_uri,
        mlflow_artifacts_url=f"{bucket}/mlflow",
        experiment=name,
        registered_model=name,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data" / "weights.safetensors").write_bytes(bytes(1000))
    return folder


def test_a_versions_files_go_straight_to_the_bucket_and_leave_it(settings: Settings, bucket: str, model: Path) -> None:
    run, mlflow = retraining_run(settings, "run", "2026-01"), client(settings)
    mlflow.log_artifacts(run, str(model), "model-k")
    place = f"mlflow/{settings.experiment}/{run}/artifacts"
    assert keys(bucket) == [f"{place}/model-k/MLmodel", f"{place}/model-k/data/weights.safetensors"]
    mlflow.log_text(run, "kept", "verdict/verdict.json")
    mlflow.create_registered_model(settings.registered_model)
    source = f"runs:/{run}/model-k"
    version = mlflow.create_model_version(settings.registered_model, source, run_id=run, await_creation_for=0)
    assert lost_copy(settings, version) == ""
    _forget(settings, Leaving(1, "k", source))
    assert keys(bucket) == [f"{place}/verdict/verdict.json"]


def test_an_experiment_that_lies_elsewhere_is_not_used_in_silence(settings: Settings) -> None:
    before = settings.model_copy(update={"mlflow_artifacts_url": None})
    run = retraining_run(before, "run", "2026-01")
    assert retraining_run(settings, "run", "2026-01") == run  # what has begun goes on
    with pytest.raises(SettingsError, match=r"keeps its files at mlflow-artifacts:.*set THETA_EXPERIMENT"):
        retraining_run(settings, "another", "2026-02")


def test_a_bucket_of_mlflows_that_is_gone_is_named(settings: Settings, bucket: str, model: Path) -> None:
    run = retraining_run(settings, "run", "2026-01")
    s3_client().delete_bucket(Bucket=bucket.removeprefix("s3://"))
    with pytest.raises(SettingsError, match=r"NoSuchBucket.*THETA_MLFLOW_ARTIFACTS_URL"), mlflow_answers(settings):
        client(settings).log_artifacts(run, str(model), "model-k")
    s3_client().create_bucket(Bucket=bucket.removeprefix("s3://"))


def test_a_bucket_of_mlflows_that_may_not_be_written_is_named(s3_with_permissions: str) -> None:
    settings = Settings(mlflow_artifacts_url=f"{s3_with_permissions}/mlflow")
    wanted = r"not allowed to use s3://kept/mlflow \(AccessDenied\).*s3:PutObject.*THETA_MLFLOW_ARTIFACTS_URL"
    with pytest.raises(SettingsError, match=wanted), mlflow_answers(settings):
        boto3.Session().client("s3").put_object(Bucket="kept", Key="mlflow/x", Body=b"")  # as the one who may read


@pytest.mark.parametrize("url", [None, "s3://kept/mlflow"])
def test_a_folder_of_this_machine_is_not_called_mlflows_bucket(url: str | None) -> None:
    refused = PermissionError(13, "Permission denied", "/somewhere/report.html")
    with pytest.raises(PermissionError, match="/somewhere/report"), mlflow_answers(Settings(mlflow_artifacts_url=url)):
        raise refused
