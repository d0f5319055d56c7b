"""What tests of several rooms share: one real stack for the whole session."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from theta_ml.settings import Settings, load_settings

pytest_plugins = ["tests.postgres", "tests.mlflow_server"]

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


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def stack_environment(home: Path) -> dict[str, str]:
    """The caller's environment, but a home and ports of its own and nobody's services."""
    airflow, mlflow, mailbox = free_ports(3)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("THETA_", "AIRFLOW_")) and name != "MLFLOW_TRACKING_URI"
    }
    return {
        **kept,
        "THETA_HOME": str(home),
        "THETA_AIRFLOW_PORT": str(airflow),
        "THETA_MLFLOW_PORT": str(mlflow),
        "THETA_MAILBOX_PORT": str(mailbox),
    }


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
    env = stack_environment(home)
    try:
        started = run_theta(env, "up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield Stack(home, settings_of(env), env)
    finally:
        ended = run_theta(env, "down")
    assert ended.returncode == 0, ended.stdout + ended.stderr
