"""What `theta retrain` asks Airflow for."""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from theta_airflow.parameters import RETRAIN

from theta_ml.cli import retrain as cli


@dataclass
class Asked:
    """An Airflow that keeps what it is asked for."""

    parameters: dict[str, Any] = field(default_factory=dict)

    def start(self, parameters: dict[str, Any]) -> str:
        self.parameters = parameters
        return "run one"

    def page(self, run_id: str) -> str:
        return f"http://airflow/{run_id}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    airflow = Asked()
    monkeypatch.setattr(cli, "Airflow", lambda settings: nullcontext(airflow))
    return airflow


def test_every_option_is_a_parameter_that_the_dag_takes(asked: Asked) -> None:
    options = ["--bootstrap", "--accept-feed", "--new-tokenizer", "--approval"]
    options += ["--approval-hours", "2", "--shards", "4"]
    done = CliRunner().invoke(cli.retrain, ["--month", "2026-02", *options])
    assert done.exit_code == 0, done.output
    assert set(asked.parameters) == set(RETRAIN)
    for name, value in asked.parameters.items():
        assert deepcopy(RETRAIN[name]).resolve(value) == value  # which keeps what it resolved
    assert asked.parameters["accept_feed"] is True


def test_a_feed_is_accepted_only_where_it_is_said(asked: Asked) -> None:
    CliRunner().invoke(cli.retrain, ["--month", "2026-02"])
    assert asked.parameters["accept_feed"] is False
