"""Configuration of the services."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from theta_ml.local import rotation
from theta_ml.local.airflow_api import database_connection, mail_connection
from theta_ml.local.environment import airflow_environment, common_environment, mlflow_environment
from theta_ml.local.layout import MARKER, Layout
from theta_ml.local.plan import Plan
from theta_ml.local.programs import Program, keep_program, kept_environment, programs
from theta_ml.local.secret import Secrets
from theta_ml.local.supervisor import configuration

SECRETS = Secrets(postgres_password="databasepassword", airflow_password="uipassword")
WRITTEN = {"schedule_from": "2026-11", "airflow_user": "ada", "airflow_password": "uipassword"}


def plan(home: Path) -> Plan:
    return Plan(Layout(home), 18080, 15000, 11025)


def test_airflow_is_on_loopback_with_our_folders_and_no_examples() -> None:
    environment = airflow_environment(plan(Path("/srv/t")), SECRETS, "ada", Path("/srv/repo"))
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__PORT"] == "18080"
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == "/srv/repo/dags"
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"
    assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "ada:admin"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql+psycopg2://")


def test_every_option_is_one_that_airflow_knows() -> None:
    """A misspelt option is silently ignored."""
    import airflow.config_templates as templates

    known = (Path(templates.__path__[0]) / "config.yml").read_text()
    for name in airflow_environment(plan(Path("/srv/t")), SECRETS, "ada", Path("/srv/repo")):
        if name.startswith("AIRFLOW__"):
            _, section, option = name.lower().split("__")
            body = re.split(rf"^{section}:$", known, flags=re.MULTILINE)[1]
            body = re.split(r"^\w+:$", body, flags=re.MULTILINE)[0]
            assert re.search(rf"^    {option}:$", body, flags=re.MULTILINE), name


def test_all_services_carry_the_marker_and_send_nothing_home() -> None:
    environment = common_environment(plan(Path("/srv/t")), WRITTEN, Path("/srv/repo"), {"PATH": "/bin"})
    assert environment[MARKER] == "/srv/t"
    assert environment["THETA_SCHEDULE_FROM"] == "2026-11"
    assert environment["PYTHONPATH"] == "/srv/repo"
    assert environment["SPT_NOENV"]
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_no_secret_is_on_a_command_line_or_in_the_supervisors_configuration(tmp_path: Path) -> None:
    made = programs(plan(tmp_path), SECRETS, WRITTEN)
    text = configuration(Layout(tmp_path), made) + "".join(" ".join(program.command) for program in made)
    for secret in SECRETS.__dict__.values():
        assert secret not in text
    assert SECRETS.postgres_password in mlflow_environment(plan(tmp_path), SECRETS)["MLFLOW_BACKEND_STORE_URI"]


def test_each_service_is_one_program_that_only_up_starts(tmp_path: Path) -> None:
    stack = plan(tmp_path / "100% odd")
    parsed = configparser.RawConfigParser()
    parsed.read_string(configuration(stack.layout, programs(stack, SECRETS, WRITTEN)))
    for service in stack.services:
        assert parsed[f"program:{service}"]["autostart"] == "false"
        assert parsed[f"program:{service}"]["autorestart"] == "true"
        assert "100%% odd" in parsed[f"program:{service}"]["command"]
    assert parsed["program:postgres"]["stopsignal"] == "INT"


def test_launch_becomes_the_program_with_its_environment_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    command = [sys.executable, "-c", "import os; print(os.environ['SECRET'] == 'it’s “%s”', 'PATH' in os.environ)"]
    keep_program(layout, Program("probe", command, {"SECRET": "it’s “%s”", "PYTHONUTF8": "1"}))
    file = layout.run / "programs" / "probe.json"
    subprocess.run([sys.executable, "-m", "theta_ml.local.launch", str(file)], check=True)
    assert layout.log("probe").read_text() == "True False\n"
    for private in (file, layout.log("probe")):
        assert private.stat().st_mode & 0o777 == 0o600
    assert kept_environment(layout, "probe")["SECRET"] == "it’s “%s”"


def test_a_large_log_is_set_aside_under_the_process_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "LARGEST", 10)
    log = tmp_path / "mlflow.log"
    with log.open("a") as service:
        for line in ("first and long\n", "second and long\n", "third and long\n", "fourth and long\n", "last\n"):
            print(line, end="", file=service, flush=True)
            rotation.rotate(log)
    assert log.read_text() == "last\n"
    assert [log.with_name(f"mlflow.log.{n}").read_text().split()[0] for n in (1, 2, 3)] == ["fourth", "third", "second"]
    assert not log.with_name("mlflow.log.4").exists()


@pytest.mark.parametrize(
    ("url", "host", "port", "extra"),
    [
        ("postgresql://postgres:pw@localhost/theta?host=/srv/t/run", "/srv/t/run", 5432, "{}"),
        ("postgresql://postgres:pw@db:6000/theta?sslmode=require", "db", 6000, '{"sslmode": "require"}'),
    ],
)
def test_connection_to_the_landing_zone(url: str, host: str, port: int, extra: str) -> None:
    connection = database_connection(url)
    assert (connection["host"], connection["port"], connection["extra"]) == (host, port, extra)
    assert (connection["login"], connection["password"], connection["schema"]) == ("postgres", "pw", "theta")


@pytest.mark.parametrize(
    ("security", "extra"),
    [
        ("none", '{"disable_ssl": true, "disable_tls": true}'),
        ("starttls", '{"disable_ssl": true, "disable_tls": false}'),
        ("ssl", '{"disable_ssl": false, "disable_tls": true}'),
    ],
)
def test_connection_to_the_mail_server(security: str, extra: str) -> None:
    written = {"smtp_host": "m", "smtp_port": 25, "smtp_user": None, "smtp_password": None, "smtp_security": security}
    assert mail_connection(written)["extra"] == extra
