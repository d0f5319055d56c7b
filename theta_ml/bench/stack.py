"""A stack for one benchmark: a home and ports of its own, ended with it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from theta_ml.settings import SETTINGS_FILE, Settings

PORTS = ("THETA_AIRFLOW_PORT", "THETA_MLFLOW_PORT", "THETA_MAILBOX_PORT")


@contextmanager
def own_stack(extra: dict[str, str] | None = None) -> Iterator[tuple[Settings, dict[str, str]]]:
    """`theta up` in a fresh home; yields its settings and the environment for `theta` commands. `theta down` after."""
    home = Path(tempfile.mkdtemp(prefix="theta-bench-"))
    environment = own_environment(home) | (extra or {})
    try:
        run_theta(environment, "up")
        yield (
            Settings.model_validate_json((home / SETTINGS_FILE).read_text()).model_copy(update={"home": home}),
            environment,
        )
    finally:
        run_theta(environment, "down")
        shutil.rmtree(home, ignore_errors=True)


def own_environment(home: Path) -> dict[str, str]:
    """The caller's environment without its stack, and with `home` and free ports instead."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    return clean_environment() | {"THETA_HOME": str(home)} | ports


def clean_environment() -> dict[str, str]:
    """The caller's environment without any setting of Theta, Airflow or MLflow."""
    foreign = ("THETA_", "AIRFLOW_", "MLFLOW_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run_theta(environment: dict[str, str], *arguments: str) -> None:
    """Raises CalledProcessError; what the command says goes to stderr, for stdout is the benchmark's."""
    subprocess.run([sys.executable, "-m", "theta_ml", *arguments], env=environment, stdout=sys.stderr, check=True)
