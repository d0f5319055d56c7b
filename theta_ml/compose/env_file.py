"""`.env` beside docker-compose.yaml: the secrets and ports of one set of containers, generated once."""

import secrets
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from theta_ml.local.layout import write_private
from theta_ml.local.secret import Secrets
from theta_ml.settings import SettingsError

ENV_FILE = ".env"
SETTINGS_ENV_FILE = "theta.env"
PREFIX = "STACK_"
"""Of what is for the containers' own use. A stage, which is given what begins with THETA_, never sees it."""

PORTS = {
    "STACK_AIRFLOW_PORT": 8080,
    "STACK_MLFLOW_PORT": 5000,
    "STACK_POSTGRES_PORT": 54320,
    "STACK_STORE_PORT": 7070,
    "STACK_MAILBOX_PORT": 1025,
}
"""Published on loopback alone. Postgres has none of its usual numbers: another one is often there already."""

ARTIFACTS = "s3://theta/artifacts"
MLFLOW_ARTIFACTS = "s3://theta/mlflow"
REGION = "us-east-1"
"""A name that S3 clients want to hear; the store beside them is in no region."""

_HEADER = """\
# Secrets and ports of docker-compose.yaml, made by `theta compose init`. Keep it to yourself: mode 0600, not in git.
# Ports may be changed. A password of Postgres stands in its volume too: changed here alone, nothing connects.
"""

_SETTINGS = """\
# Settings of Theta in every container, NAME=value, one a line; the README lists them. `docker-compose up -d` applies
# them. For example:
# THETA_MAIL_TO=engineers@example.com
# THETA_APPROVAL=true
"""


def generate(now: datetime | None = None) -> dict[str, str]:
    """A whole new `.env`."""
    made = Secrets()
    return {
        "STACK_POSTGRES_PASSWORD": made.postgres_password,
        "STACK_THETA_PASSWORD": secrets.token_hex(32),
        "STACK_REDIS_PASSWORD": secrets.token_hex(32),
        "STACK_STORE_KEY": secrets.token_hex(10),
        "STACK_STORE_SECRET": secrets.token_hex(32),
        "STACK_AIRFLOW_PASSWORD": made.airflow_password,
        "STACK_AIRFLOW_FERNET_KEY": made.airflow_fernet_key,
        "STACK_AIRFLOW_JWT_SECRET": made.airflow_jwt_secret,
        "STACK_AIRFLOW_SECRET_KEY": made.airflow_secret_key,
        **{name: str(port) for name, port in PORTS.items()},
        "THETA_SCHEDULE_FROM": f"{now or datetime.now(UTC):%Y-%m}",
    }


def complete(folder: Path) -> list[str]:
    """Writes what `.env` lacks and keeps what it has, also what is not ours; returns the names that were added.

    Makes an empty file of settings where there is none. Raises SettingsError where `.env` has a line that is none.
    """
    path = folder / ENV_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else _HEADER
    kept = parse(text, path)
    added = {name: value for name, value in generate().items() if name not in kept}
    lines = [text if text.endswith("\n") or not text else f"{text}\n"]
    write_private(path, "".join([*lines, *(f"{name}={value}\n" for name, value in added.items())]))
    if not (folder / SETTINGS_ENV_FILE).exists():
        write_private(folder / SETTINGS_ENV_FILE, _SETTINGS)
    return list(added)


def read(folder: Path) -> dict[str, str]:
    """Raises SettingsError where there is none, or half of one."""
    path = folder / ENV_FILE
    if not path.exists():
        raise SettingsError(f"no {path}: run `theta compose init` first")
    found = parse(path.read_text(encoding="utf-8"), path)
    missing = sorted(set(generate()) - set(found))
    if missing:
        raise SettingsError(f"{path} lacks {', '.join(missing)}: `theta compose init` adds what is missing")
    return found


def parse(text: str, path: Path) -> dict[str, str]:
    """As Docker Compose reads it, without quotes and interpolation, which this file needs none of."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            # Not the line itself: it may be a secret.
            raise SettingsError(f"{path}, line {number}: it is not NAME=value; repair it, or move the file away")
        found[name.strip()] = value.strip()
    return found


def seen_from_here(env: Mapping[str, str]) -> dict[str, str]:
    """Settings with which `theta` on the host of the containers talks to them, and to the store that they use."""
    return {
        "THETA_DATABASE_URL": (
            f"postgresql://theta:{env['STACK_THETA_PASSWORD']}@127.0.0.1:{env['STACK_POSTGRES_PORT']}/theta"
        ),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{env['STACK_MLFLOW_PORT']}",
        "THETA_AIRFLOW_URL": f"http://127.0.0.1:{env['STACK_AIRFLOW_PORT']}",
        "THETA_AIRFLOW_PASSWORD": env["STACK_AIRFLOW_PASSWORD"],
        "THETA_ARTIFACTS_URL": env.get("STACK_ARTIFACTS_URL") or ARTIFACTS,
        "THETA_MLFLOW_ARTIFACTS_URL": env.get("STACK_MLFLOW_ARTIFACTS_URL") or MLFLOW_ARTIFACTS,
        "AWS_ENDPOINT_URL": env.get("STACK_STORE_URL") or f"http://127.0.0.1:{env['STACK_STORE_PORT']}",
        "AWS_ACCESS_KEY_ID": env["STACK_STORE_KEY"],
        "AWS_SECRET_ACCESS_KEY": env["STACK_STORE_SECRET"],
        "AWS_DEFAULT_REGION": env.get("STACK_STORE_REGION") or REGION,
    }


def exports(settings: Mapping[str, str]) -> str:
    """Lines for a shell to evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
