"""What runs is decided by what the user asked for, not by what an earlier start wrote."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from theta_ml.local.layout import Layout, StackError, write_json
from theta_ml.local.plan import Plan, asked, keep_plan, kept_plan, plan_for, written_settings
from theta_ml.local.secret import Secrets, load_secrets
from theta_ml.settings import SettingsError, load_settings

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("THETA_") or name == "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THETA_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def start(now: datetime = NOW) -> Plan:
    """What `up` does with the settings."""
    settings = asked()
    plan = plan_for(settings)
    write_json(plan.layout.settings, written_settings(plan, settings, Secrets(postgres_password="pw"), now))
    return plan


def test_everything_is_local_unless_told_otherwise() -> None:
    assert start().services == (
        *("postgres", "mailbox", "mlflow", "api-server", "scheduler", "dag-processor", "triggerer", "watchdog"),
    )


def test_what_an_earlier_start_wrote_does_not_count_as_told() -> None:
    start()
    assert load_settings().mlflow_tracking_uri == "http://127.0.0.1:5000"
    assert start().mlflow_port == 5000
    assert start().mailbox_port == 1025


def test_services_named_by_the_environment_are_used_and_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:80")
    monkeypatch.setenv("THETA_SMTP_HOST", "mail.example")
    monkeypatch.setenv("THETA_DATABASE_URL", "postgresql://u:p@db.example/theta")
    plan = start()
    assert "mlflow" not in plan.services
    assert "mailbox" not in plan.services
    assert "postgres" in plan.services  # Airflow's own database is still here
    written = json.loads(plan.layout.settings.read_text())
    assert written["smtp_host"] == "mail.example"
    assert written["smtp_port"] == 587
    assert written["database_url"] == "postgresql://u:p@db.example/theta"


def test_a_broker_brings_workers_and_given_up_takes_them_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as told:
        told.setenv("THETA_CELERY_BROKER", "redis://:secret@127.0.0.1/3")
        assert {"worker-default", "worker-gpu"} < set(start().services)
        broker = load_settings().celery_broker
        assert broker is not None
        assert "secret" not in repr(broker)
    # What an earlier start wrote says where workers are found, not that there shall be some.
    assert load_settings().celery_broker == broker
    assert not {"worker-default", "worker-gpu"} & set(start().services)
    assert load_settings().celery_broker is None


def test_a_broker_that_is_no_redis_is_refused_without_telling_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_CELERY_BROKER", "amqp://u:secret@127.0.0.1")
    with pytest.raises(SettingsError, match="THETA_CELERY_BROKER") as told:
        asked()
    assert "secret" not in str(told.value)


def test_a_mail_server_given_up_takes_its_login_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as told:
        told.setenv("THETA_SMTP_HOST", "mail.example")
        told.setenv("THETA_SMTP_USER", "theta")
        told.setenv("THETA_SMTP_PASSWORD", "secret")
        start()
        assert load_settings().smtp_user == "theta"
    start()
    settings = load_settings()
    assert settings.smtp_host == "127.0.0.1"
    assert settings.smtp_security == "none"
    assert settings.smtp_user is None


def test_the_schedule_starts_with_the_month_of_the_first_start() -> None:
    start()
    start(datetime(2027, 3, 1, tzinfo=UTC))
    assert load_settings().schedule_from == "2026-11"


def test_the_database_url_suits_libpq_and_names_a_host(home: Path) -> None:
    plan = start()
    url = plan.database("theta", Secrets(postgres_password="pw"))
    assert url == f"postgresql://postgres:pw@localhost/theta?host={plan.layout.sockets}"


def test_a_setting_at_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_AIRFLOW_PORT", "many")
    with pytest.raises(SettingsError, match="THETA_AIRFLOW_PORT"):
        asked()


def test_the_plan_is_found_again(home: Path) -> None:
    plan = start()
    plan.layout.create()
    keep_plan(plan)
    assert kept_plan(Layout(home)) == plan


def test_secrets_are_generated_once_and_kept_private(home: Path) -> None:
    layout = Layout(home)
    first = load_secrets(layout)
    assert load_secrets(layout) == first
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o600
    assert first.postgres_password not in repr(first)


def test_folders_are_private(home: Path) -> None:
    layout = Layout(home)
    layout.create()
    for folder in (layout.home, layout.run, layout.logs, layout.mail):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (home / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="run"):
        Layout(home).create()


def test_a_long_home_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    short, long = Layout(Path("/srv/theta")), Layout(tmp_path / ("x" * 100))
    assert short.sockets == short.run
    assert len(str(long.sockets)) < 60
    assert long.sockets != Layout(tmp_path / ("y" * 100)).sockets
