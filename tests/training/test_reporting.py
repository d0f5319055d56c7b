"""MLflow and Postgres hear of a training, and being away does not stop it."""

import threading
from pathlib import Path

import psycopg
import pytest

from theta_ml import tracking
from theta_ml.landing.database import DatabaseUnreachable
from theta_ml.settings import Settings
from theta_ml.stage import StageRetry
from theta_ml.training import reporting
from theta_ml.training.hardware import Load
from theta_ml.training.reporting import EpochRow, EpochTable, LiveMetrics

NOWHERE = "postgresql://postgres@127.0.0.1:1/theta"
ROW = EpochRow(1, 10, 2.5, 2.25, 1e-3, 9000.0, "cpu", Load())


def test_lines_arrive_in_mlflow_and_again_after_a_resume(tmp_path: Path, database_url: str, mlflow_uri: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url, mlflow_tracking_uri=mlflow_uri)  # type: ignore[arg-type]
    lines = [{"step": step, "time": 1.7e9 + step, "train_loss": 5.0 / step} for step in (1, 2, 3)]
    said: list[str] = []
    for some in (lines[:2], lines[1:]):  # step 2 is sent twice, as after a crash
        live = LiveMetrics(settings, "r1", "2026-01", said.append)
        for line in some:
            live.add(line)
        live.close()
    run = tracking.retraining_run(settings, "r1", "2026-01")
    points = tracking.client(settings).get_metric_history(run, "train_loss")
    assert {(point.step, point.value) for point in points} == {(1, 5.0), (2, 2.5), (3, 5.0 / 3)}
    assert len(points) == 3 and said == []


def test_mlflow_being_away_ends_the_reports_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> str:
        raise StageRetry("MLflow did not answer")

    monkeypatch.setattr(tracking, "retraining_run", away)
    monkeypatch.setattr(reporting, "FLUSH_SECONDS", 0.01)
    said: list[str] = []
    live = LiveMetrics(Settings(home=tmp_path), "r1", "2026-01", said.append)
    for step in range(5):
        live.add({"step": step, "train_loss": 1.0})
    live.close()
    live.close()
    assert len(said) == 1 and "MLflow did not answer" in said[0] and "when the candidate is decided on" in said[0]


def test_epochs_wait_for_postgres(tmp_path: Path, database_url: str) -> None:
    said: list[str] = []
    away = Settings(home=tmp_path, database_url=NOWHERE)  # type: ignore[arg-type]
    table = EpochTable(away, "r1", "k", said.append)
    table.add(ROW)
    assert "epoch 1 is written later" in said[0]
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(DatabaseUnreachable):
        table.close(stopped)
    table.settings = Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]
    table.close(threading.Event())
    table.add(ROW)  # again, as after a crash between the row and the checkpoint
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT run_id, epoch, validation_loss, power_w FROM training_metrics").fetchall()
    assert rows == [("r1", 1, 2.25, None)]
