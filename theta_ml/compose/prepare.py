"""What must be there before the first service starts: databases, their tables, the bucket, Airflow's pool.

Run once by the container `init`, and again, to no effect, whenever the containers come up.
"""

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from theta_ml.compose.env_file import MLFLOW_ARTIFACTS
from theta_ml.compose.roles import airflow_in_container, containers
from theta_ml.local.airflow_api import GPU_POOL
from theta_ml.local.layout import StackError
from theta_ml.local.postgres import create_databases
from theta_ml.local.programs import airflow_command
from theta_ml.local.secret import Secrets
from theta_ml.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STORE_SECONDS = 60.0
"""That the store has to answer; its container was healthy when this one started."""

Report = Callable[[str, str], None]


def prepare(settings: Settings, secrets: Secrets, report: Report) -> None:
    """Raises StackError, psycopg.Error and MigrationError, each of which says what is at fault."""
    from theta_ml.landing.migrations import migrate

    plan = containers()
    create_databases(plan.database("postgres", secrets))
    applied = migrate(settings.require_database())
    report("theta database", f"{len(applied)} migrations applied" if applied else "up to date")
    for url in (settings.artifacts, MLFLOW_ARTIFACTS):
        if url.startswith("s3://"):
            bucket = urlsplit(url).netloc
            report("store", f"bucket {bucket} {'made' if make_bucket(bucket) else 'is there'}")
    environment = airflow_in_container(plan, settings, secrets)
    for arguments in (("db", "migrate"), ("pools", "set", GPU_POOL, "1", "One training at a time")):
        _airflow(arguments, environment)
        report("airflow", f"{' '.join(arguments[:2])}: done")


def make_bucket(bucket: str) -> bool:
    """Whether it was not there. Raises StackError where the store does not answer, or says no."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

    client: S3Client = boto3.client("s3", config=Config(connect_timeout=5, read_timeout=10))
    deadline = time.monotonic() + STORE_SECONDS
    while True:
        try:
            if _has(client, bucket):
                return False
            client.create_bucket(Bucket=bucket)
            return True
        except EndpointConnectionError as error:
            if time.monotonic() > deadline:
                raise StackError(f"{error}: AWS_ENDPOINT_URL says where the store is") from None
            time.sleep(1)
        except (BotoCoreError, ClientError) as error:
            raise StackError(f"the store has no bucket {bucket}, and makes none: {error}") from None


def _has(client: "S3Client", bucket: str) -> bool:
    return any(each.get("Name") == bucket for each in client.list_buckets()["Buckets"])


def _airflow(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    done = subprocess.run(
        airflow_command(*arguments), env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise StackError(f"`airflow {' '.join(arguments)}` failed:\n{last}")
