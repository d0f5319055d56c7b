"""What a person reads where a command cannot do its work."""

import os
import subprocess
from pathlib import Path

from tests.conftest import THETA


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
