"""What a person reads where a command cannot do its work."""

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import THETA
from theta_ml.cli.stage import STAGES, stage


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "THETA_DATABASE_URL"}
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [THETA, "data", "list"],
            env=env | {"THETA_HOME": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 74
    assert "No space left on device" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("name", STAGES)
def test_every_parameter_of_a_stage_is_explained(name: str) -> None:
    lines = CliRunner().invoke(stage, [name, "--parameters"]).output.splitlines()
    assert lines[0] == "month (required)" and lines[-1].startswith("    ")
    unexplained = [line for line, next_line in pairwise(lines) if line[0] != " " and not next_line.strip()]
    assert not unexplained and not any(line[0] != " " and after[0] != " " for line, after in pairwise(lines))
