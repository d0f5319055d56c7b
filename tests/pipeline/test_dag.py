"""The DAG file as Airflow parses it."""

import subprocess
import sys
from pathlib import Path

import pytest

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
