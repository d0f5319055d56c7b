"""The DAG file as Airflow parses it."""

import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils.types import DagRunType

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "mlflow", "evidently", "pandas", "great_expectations"}


@pytest.mark.parametrize("file", sorted((ROOT / "dags").glob("*.py")), ids=lambda file: file.name)
def test_parsing_a_dag_file_imports_nothing_heavy(file: Path, tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(file)!r}); print(*{HEAVY!r}.intersection(sys.modules))"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'plugins'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1:] in ([], [""]), done.stdout


def test_a_month_has_its_interval_and_may_be_backfilled_although_an_event_may_start_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THETA_SCHEDULE_FROM", "2026-02")
    written = DagSerialization.to_dict(runpy.run_path(str(ROOT / "dags" / "theta_retrain.py"))["dag"])
    dag = DagSerialization.from_dict(written)  # as the scheduler reads it
    assert [asset.name for _, asset in dag.timetable.asset_condition.iter_assets()] == ["theta_conversations"]
    assert dag.timetable.periodic
    february = datetime(2026, 2, 1, tzinfo=UTC)
    first, second = dag.iter_dagrun_infos_between(february, february + timedelta(days=40))
    assert (first.data_interval.start, first.data_interval.end) == (february, february + timedelta(days=28))
    assert second.data_interval.start == first.data_interval.end
    run_id = dag.timetable.generate_run_id(
        run_type=DagRunType.BACKFILL_JOB, run_after=first.run_after, data_interval=first.data_interval
    )
    assert run_id.startswith("backfill__")
