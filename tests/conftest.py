"""What tests of several rooms share: one real stack for the whole session."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from theta_ml.bench.stack import own_environment
from theta_ml.settings import Settings, load_settings

pytest_plugins = ["tests.postgres", "tests.mlflow_server", "tests.s3_server", "tests.parallel", "tests.pipeline.runs"]

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores; read when torch is loaded

hypothesis.settings.register_profile("theta", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("theta")

THETA = str(Path(sys.executable).with_name("theta"))
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    """A stack of its own: home and ports that nothing else uses."""

    home: Path
    settings: Settings
    env: dict[str, str]
    """Environment for child processes that are to find this stack."""

    def theta(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a `theta` command against this stack."""
        return run_theta(self.env, *arguments, timeout=timeout)


def run_theta(env: dict[str, str], *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [THETA, *arguments], env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, check=False
    )


def settings_of(env: dict[str, str]) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("THETA_") or name == "MLFLOW_TRACKING_URI"]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        return load_settings()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack, started once for all tests that ask for it."""
    home = tmp_path_factory.mktemp("stack") / "theta"
    env = own_environment(home)
    try:
        started = run_theta(env, "up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield Stack(home, settings_of(env), env)
    finally:
        ended = run_theta(env, "down")
    assert ended.returncode == 0, ended.stdout + ended.stderr
