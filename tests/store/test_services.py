"""Who talks to the bucket has the variables that say how."""

from pathlib import Path

from theta_airflow.child import stage_environment

from theta_ml.local.environment import common_environment
from theta_ml.local.layout import Layout
from theta_ml.local.plan import Plan

GIVEN = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_REGION": "eu-central-1",
    "AWS_CA_BUNDLE": "/etc/ca.pem",
    "THETA_ARTIFACTS_URL": "s3://bucket/artifacts",
    "THETA_MLFLOW_ARTIFACTS_URL": "s3://bucket/mlflow",
}


def test_services_and_the_stages_they_start_reach_the_bucket() -> None:
    plan = Plan(Layout(Path("/srv/t")), 18080, 15000, 11025)
    services = common_environment(plan, {"schedule_from": "2026-11"}, Path("/srv/repo"), GIVEN)
    assert services.items() >= GIVEN.items()
    assert stage_environment(services).items() >= GIVEN.items()
