"""What must be there before the first service starts: databases, their tables, the bucket, Airflow's pool.

Run once by the container `init`, and again, to no effect, whenever the containers come up.
"""

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from theta_ml.compose.ownership import own
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
    admin, database = plan.database("postgres", secrets), settings.require_database()
    create_databases(admin)
    if is_contained(database, plan.postgres_host):
        own(admin, database, closed=("airflow", "mlflow", "postgres"))
    applied = migrate(database)
    report("theta database", f"{len(applied)} migrations applied" if applied else "up to date")
    for bucket in buckets(settings):
        report("store", f"bucket {bucket} {'made' if make_bucket(bucket) else 'is there'}")
    environment = airflow_in_container(plan, settings, secrets)
    for arguments in (("db", "migrate"), ("pools", "set", GPU_POOL, "1", "One training at a time")):
        _airflow(arguments, environment)
        report("airflow", f"{' '.join(arguments[:2])}: done")


def is_contained(database_url: str, host: str) -> bool:
    """Whether it is in our own Postgres, for a role other than its superuser: that of yours has its roles from you."""
    parts = conninfo_to_dict(database_url)
    return parts.get("host") == host and parts.get("user") != "postgres" and "password" in parts


def buckets(settings: Settings) -> list[str]:
    """Those that artifacts and the files of MLflow's runs go to, each once."""
    urls = [url for url in (settings.artifacts, settings.mlflow_artifacts_url) if url and url.startswith("s3://")]
    return list(dict.fromkeys(urlsplit(url).netloc for url in urls))


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
            _create(client, bucket)
            return True
        except EndpointConnectionError as error:
            if time.monotonic() > deadline:
                raise StackError(f"{error}: AWS_ENDPOINT_URL says where the store is") from None
            time.sleep(1)
        except (BotoCoreError, ClientError) as error:
            raise StackError(f"the bucket {bucket} can be neither used nor made: {error}") from None


def _has(client: "S3Client", bucket: str) -> bool:
    """Asks for this one alone: to list all buckets is a permission that a key for one bucket lacks."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        return False
    return True


def _create(client: "S3Client", bucket: str) -> None:
    """In the client's region. Amazon's first one is that of a bucket for which none is named, and may not be named."""
    region: Any = client.meta.region_name
    if region in (None, "us-east-1"):
        client.create_bucket(Bucket=bucket)
    else:
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})


def _airflow(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    done = subprocess.run(
        airflow_command(*arguments), env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise StackError(f"`airflow {' '.join(arguments)}` failed:\n{last}")
