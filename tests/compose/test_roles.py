"""docker-compose.yaml and the code that runs in its containers agree."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from theta_airflow.child import stage_environment

from tests.conftest import REPOSITORY
from theta_ml.compose.env_file import ARTIFACTS, MLFLOW_ARTIFACTS, REGION, generate
from theta_ml.compose.roles import ROLES, airflow_folder, program, secrets_of
from theta_ml.compose.watch import START_UP, UNWELL, Patience
from theta_ml.local.plan import AIRFLOW_SERVICES
from theta_ml.local.workers import QUEUES
from theta_ml.settings import Settings, SettingsError, load_settings

FILE = REPOSITORY / "docker-compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]


def environment_of(role: str) -> dict[str, str]:
    """As Docker Compose gives it to the container."""
    env = generate()

    def value(match: re.Match[str]) -> str:
        name, _, default = re.split(r"(:-|:\?)", match[1] + ":-")[:3]
        return env.get(name, default)

    given = SERVICES[role].get("environment", {})
    return {name: re.sub(r"\$\{([^}]*)\}", value, str(text)) for name, text in given.items()}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def of(role: str) -> tuple[Settings, dict[str, str]]:
        env = environment_of(role)
        for name, value in {**env, "THETA_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        return load_settings(), env

    return of


def test_each_role_has_its_service_and_each_variable_its_place_in_the_env_file() -> None:
    assert {name for name, service in SERVICES.items() if "compose" in service["command"]} == {*ROLES, "init"}
    assert all(SERVICES[role]["command"][-1] == role for role in ROLES)
    used = set(re.findall(r"\$\{(STACK_\w+|THETA_SCHEDULE_FROM)(?::\?|\})", FILE.read_text()))
    assert used == set(generate())


def test_every_service_is_limited_looked_at_and_published_on_loopback_alone() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["logging"]["options"]["max-size"], name
        if name != "init":
            assert service["mem_limit"], name
            assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service or service["image"].startswith("${THETA_IMAGE"), name


def test_a_worker_is_given_no_secret_that_signs(settings: Any) -> None:
    of_airflow = {name for name in generate() if name.startswith("STACK_AIRFLOW_") and not name.endswith("_PORT")}
    for role in ROLES:
        has = of_airflow & set(environment_of(role))
        wants = of_airflow - {"STACK_AIRFLOW_PASSWORD"} if role in AIRFLOW_SERVICES else set()
        assert has - {"STACK_AIRFLOW_PASSWORD"} == wants, role
    for role in (*QUEUES, "scheduler"):
        found, env = settings(role)
        made = program(role, found, secrets_of(env, role))
        assert not [name for name in made.environment if name.startswith("STACK_")]
        signs = made.environment["AIRFLOW__API_AUTH__JWT_SECRET"] == env.get("STACK_AIRFLOW_JWT_SECRET")
        assert signs == (role == "scheduler")


def test_what_airflow_is_told(settings: Any) -> None:
    found, env = settings("worker-gpu")
    made = program("worker-gpu", found, secrets_of(env, "worker-gpu"))
    told = made.environment
    assert told["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert told["AIRFLOW__CELERY__BROKER_URL"] == env["THETA_CELERY_BROKER"]
    assert told["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"
    assert told["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8080"
    assert "@postgres:5432/airflow" in told["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert told["AIRFLOW_HOME"] == str(airflow_folder())
    assert '"host": "mailbox"' in told["AIRFLOW_CONN_SMTP_DEFAULT"]
    assert '"schema": "theta"' in told["AIRFLOW_CONN_THETA_DB"]
    assert made.command[made.command.index("--queues") + 1] == "gpu"
    assert (told["THETA_ARTIFACTS_URL"], told["THETA_MLFLOW_ARTIFACTS_URL"]) == (ARTIFACTS, MLFLOW_ARTIFACTS)
    assert told["AWS_DEFAULT_REGION"] == REGION


def test_a_stage_s_role_in_postgres_is_not_its_superuser(settings: Any) -> None:
    found, env = settings("worker-default")
    made = program("worker-default", found, secrets_of(env, "worker-default")).environment
    assert made["THETA_DATABASE_URL"].startswith("postgresql://theta:")
    stage = stage_environment(made)
    assert stage["THETA_DATABASE_URL"] == made["THETA_DATABASE_URL"]
    kept = (env["STACK_POSTGRES_PASSWORD"], made["AIRFLOW__CELERY__BROKER_URL"])
    assert not [name for name, value in stage.items() if any(secret in value for secret in kept)]


def test_every_build_argument_is_a_variable_of_the_env_file() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE))
    passed = SERVICES["init"]["build"]["args"]
    assert set(passed) == arguments
    assert all(value.startswith(f"${{{name}:-") for name, value in passed.items())


def test_a_role_that_lacks_a_secret_says_which() -> None:
    with pytest.raises(SettingsError, match=r"STACK_AIRFLOW_FERNET_KEY, .*STACK_AIRFLOW_SECRET_KEY"):
        secrets_of({"STACK_POSTGRES_PASSWORD": "a"}, "scheduler")


def test_what_is_unwell_for_long_is_ended_unless_it_waits_for_another() -> None:
    patience = Patience(0)
    assert not patience.exhausted("starting", None, START_UP - 1)
    assert patience.exhausted("starting", None, START_UP)
    patience = Patience(0)
    assert not patience.exhausted(None, None, 10)
    assert not patience.exhausted("no heartbeat", None, 20)
    assert not patience.exhausted("no heartbeat", "Postgres is away", 20 + UNWELL)
    assert not patience.exhausted("no heartbeat", None, 30 + UNWELL)
    assert not patience.exhausted("no heartbeat", None, 29 + 2 * UNWELL)
    assert patience.exhausted("no heartbeat", None, 30 + 2 * UNWELL)
