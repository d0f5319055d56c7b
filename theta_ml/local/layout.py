"""Where things are under THETA_HOME."""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta_ml.settings import SETTINGS_FILE, SettingsError

MARKER = "THETA_INSTANCE"
"""Environment variable that every process of a stack carries: the absolute THETA_HOME it belongs to."""

# A unix socket's path ends at 107 bytes (103 on macOS), and supervisord binds `supervisor.sock.PID` first.
_LONGEST_SOCKET_DIRECTORY = 103 - len("/supervisor.sock.4194304")


class StackError(Exception):
    """The local stack cannot do what was asked; the message says what to change."""


@dataclass(frozen=True)
class Layout:
    """Paths of one stack."""

    home: Path

    @property
    def settings(self) -> Path:
        return self.home / SETTINGS_FILE

    @property
    def secrets(self) -> Path:
        return self.home / "secrets.json"

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def airflow(self) -> Path:
        return self.home / "airflow"

    @property
    def passwords(self) -> Path:
        """Logins of Airflow's UI, as its SimpleAuthManager reads them."""
        return self.airflow / "passwords.json"

    @property
    def mail(self) -> Path:
        return self.home / "mail"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.home / "mlflow-artifacts"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def sockets(self) -> Path:
        """Directory of the unix sockets: `run/`, or a short one where that path is too long for a socket."""
        if len(os.fsencode(self.run)) <= _LONGEST_SOCKET_DIRECTORY:
            return self.run
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"theta-{os.getuid()}-{digest}"

    @property
    def lock(self) -> Path:
        return self.run / "up.lock"

    @property
    def outage(self) -> Path:
        """What the watchdog knows of an Airflow that is dead."""
        return self.run / "outage.json"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def create(self) -> None:
        """Make the folders, readable by this user alone. Raises StackError where one is somebody else's."""
        folders = (
            self.home,
            self.airflow,
            self.mail,
            self.mlflow_artifacts,
            self.logs,
            self.run,
            self.run / "programs",
        )
        for folder in (*folders, self.sockets):
            _private_folder(folder)


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StackError(f"{folder} belongs to another user: remove it, or set THETA_HOME to a folder of your own")
    folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file at once (never half-written), with mode 0600 from its first byte."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file. Raises SettingsError where it is not an object."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}): repair or remove it") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} does not hold a JSON object: repair or remove it")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_private(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
