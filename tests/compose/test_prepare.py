"""What `init` makes: the role that stages have in Postgres, and the buckets."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.client import BaseClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.postgres import on_database
from tests.s3_server import s3_client
from theta_ml.compose.ownership import own
from theta_ml.compose.prepare import buckets, is_contained, make_bucket
from theta_ml.landing.detaching import attach, detach, drop
from theta_ml.landing.migrations import migrate
from theta_ml.landing.months import make_months
from theta_ml.local.layout import StackError
from theta_ml.settings import Settings

CONVERSATION = "INSERT INTO conversations (conversation_id, source, occurred_at) VALUES (%s, 'test', %s)"
OTHERS = """
SELECT relname FROM pg_class WHERE relowner = 'postgres'::regrole AND relnamespace NOT IN
    ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
UNION ALL SELECT proname FROM pg_proc WHERE proowner = 'postgres'::regrole AND pronamespace = 'public'::regnamespace
UNION ALL SELECT nspname FROM pg_namespace WHERE nspowner = 'postgres'::regrole AND nspname IN ('detached', 'tuning')"""


@pytest.fixture
def role(postgres_url: str) -> Iterator[str]:
    """A name that the server has no role of. Ask for it before a database, which then goes first."""
    name = f"theta {uuid.uuid4().hex[:8]}"
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for (database,) in admin.execute(
            "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", [name]
        ).fetchall():
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def as_role(url: str, role: str) -> str:
    return make_conninfo(url, user=role, password="it's secret")


def test_a_new_database_is_migrated_by_its_own_role(postgres_url: str, role: str) -> None:
    name = f"new_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = as_role(on_database(postgres_url, name), role)
    own(postgres_url, url, closed=())
    assert migrate(url)
    assert migrate(url) == []


def test_a_database_of_before_goes_to_the_role_with_all_that_is_in_it(
    role: str, postgres_url: str, empty_database_url: str, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as before:
        make_months(before, ["2026-01", "2026-02"])
        before.execute(CONVERSATION, ["a", "2026-01-05"])
        detach(before, "2026-01")
        assert before.execute(OTHERS).fetchall()
    url = as_role(database_url, role)
    with psycopg.connect(empty_database_url) as another:
        closed = another.info.dbname
    for _ in range(2):
        own(postgres_url, url, closed=(closed,))
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(OTHERS).fetchall() == []
        attach(connection, "2026-01")
        connection.execute(CONVERSATION, ["b", "2026-02-05"])
        detach(connection, "2026-02")
        drop(connection, "2026-02")
        assert connection.execute("SELECT conversation_id FROM conversations").fetchall() == [("a",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(as_role(empty_database_url, role))


def test_another_password_in_the_settings_is_the_role_s_from_then_on(
    role: str, postgres_url: str, database_url: str
) -> None:
    stored = "SELECT rolpassword, rolsuper FROM pg_authid WHERE rolname = %s"
    with psycopg.connect(postgres_url) as admin:
        made = []
        for password in ("one", "two"):
            own(postgres_url, make_conninfo(database_url, user=role, password=password), closed=())
            made.append(admin.execute(stored, [role]).fetchone())
    assert made[0] != made[1]
    assert all(row and row[0].startswith("SCRAM-SHA-256$") and row[1] is False for row in made)


def test_only_a_database_of_the_containers_is_given_away() -> None:
    assert is_contained("postgresql://theta:s@postgres:5432/theta", "postgres")
    assert not is_contained("postgresql://theta:s@db.example.com:5432/theta", "postgres")
    assert not is_contained("postgresql://postgres:s@postgres:5432/theta", "postgres")


def test_the_buckets_are_those_of_the_settings(tmp_path: Path) -> None:
    def of(artifacts: str, mlflow: str | None) -> list[str]:
        return buckets(Settings(home=tmp_path, artifacts_url=artifacts, mlflow_artifacts_url=mlflow))

    assert of("s3://ours/theta/artifacts", "s3://ours/theta/mlflow") == ["ours"]
    assert of("s3://one/a", "s3://two") == ["one", "two"]
    assert of("/srv/artifacts", None) == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_bucket_is_made_once_and_where_the_settings_say(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    name = f"theta-{uuid.uuid4().hex[:12]}"
    assert make_bucket(name)
    asked: list[str] = []
    call: Any = BaseClient._make_api_call

    def heard(client: BaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        asked.append(operation)
        return call(client, operation, arguments)

    with monkeypatch.context() as listening:
        listening.setattr(BaseClient, "_make_api_call", heard)
        assert not make_bucket(name)
    assert asked == ["HeadBucket"]  # a key for one bucket may ask no more
    s3_client().delete_bucket(Bucket=name)


def test_a_key_that_may_not_see_the_bucket_is_told_so(s3_with_permissions: str) -> None:
    with pytest.raises(StackError, match=r"other-bucket.*403"):
        make_bucket("other-bucket")
