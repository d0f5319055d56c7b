"""The secrets of the containers: made once, kept, and never shown."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from theta_ml.cli import theta
from theta_ml.compose.env_file import PORTS, complete, exports, generate, parse, read, seen_from_here
from theta_ml.settings import SettingsError


def test_a_second_call_keeps_what_is_there_and_adds_what_is_missing(tmp_path: Path) -> None:
    assert set(complete(tmp_path)) == set(generate())
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = read(tmp_path)
    kept = [line for line in path.read_text().splitlines() if not line.startswith("STACK_REDIS_PASSWORD")]
    path.write_text("\n".join([*kept, "# mine", "TORCH=cuda"]))  # no newline at the end
    path.chmod(0o644)
    assert complete(tmp_path) == ["STACK_REDIS_PASSWORD"]
    again = read(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.pop("TORCH") == "cuda"
    assert again.pop("STACK_REDIS_PASSWORD") != first.pop("STACK_REDIS_PASSWORD")
    assert again == first
    assert complete(tmp_path) == []


def test_two_sets_of_containers_share_no_secret() -> None:
    first, second = generate(), generate()
    secrets = [name for name in first if name.startswith("STACK_") and name not in PORTS]
    assert len(secrets) == 9
    assert all(first[name] != second[name] and len(first[name]) >= 20 for name in secrets)
    assert generate(datetime(2026, 3, 31, tzinfo=UTC))["THETA_SCHEDULE_FROM"] == "2026-03"


def test_what_is_wrong_is_said_without_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="theta compose init"):
        read(tmp_path)
    (tmp_path / ".env").write_text("STACK_POSTGRES_PASSWORD=a\nhunter2\n")
    with pytest.raises(SettingsError, match="line 2") as said:
        complete(tmp_path)
    assert "hunter2" not in str(said.value)
    (tmp_path / ".env").write_text("STACK_POSTGRES_PASSWORD=a\n")
    with pytest.raises(SettingsError, match="STACK_AIRFLOW_PASSWORD"):
        read(tmp_path)


def test_the_commands(tmp_path: Path) -> None:
    made = CliRunner().invoke(theta, ["compose", "init", "--folder", str(tmp_path)])
    assert made.exit_code == 0
    assert "9 secrets" in made.output
    secrets = read(tmp_path)
    assert not any(value in made.output for name, value in secrets.items() if name.endswith(("PASSWORD", "SECRET")))
    told = CliRunner().invoke(theta, ["compose", "env", "--folder", str(tmp_path)])
    seen = parse(told.output.replace("export ", ""), tmp_path)
    assert seen == seen_from_here(secrets)
    assert seen["THETA_DATABASE_URL"].endswith("@127.0.0.1:54320/theta")
    assert seen["AWS_ENDPOINT_URL"] == "http://127.0.0.1:7070"
    assert exports({"A": "it's"}) == "export A='it'\"'\"'s'\n"


def test_a_bucket_of_yours_is_the_host_s_too() -> None:
    ours = {
        "STACK_STORE_URL": "https://s3.eu-central-1.amazonaws.com",
        "STACK_STORE_REGION": "eu-central-1",
        "STACK_ARTIFACTS_URL": "s3://ours/artifacts",
        "STACK_MLFLOW_ARTIFACTS_URL": "s3://ours/mlflow",
    }
    seen = seen_from_here(generate() | ours)
    named = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "THETA_ARTIFACTS_URL", "THETA_MLFLOW_ARTIFACTS_URL")
    assert [seen[name] for name in named] == list(ours.values())
