"""Applies `sql/NNNN_name.sql` in order, each once, each in a transaction of its own, and records what it applied."""

import hashlib
import re
from pathlib import Path

import psycopg

from theta_ml.landing.database import connect_url, sql_folder
from theta_ml.landing.locks import MIGRATIONS

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_RECORD = """
CREATE TABLE migrations (
    name       text        PRIMARY KEY,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""


class MigrationError(Exception):
    """The files and the database disagree, or a file does not apply; the message names the file."""


def migrate(database_url: str, folder: Path | None = None) -> list[str]:
    """Brings the database to the newest schema; returns the names applied now, oldest first.

    Safe to call from several processes at once: an advisory lock lets one work and the others find it done.
    Raises MigrationError; DatabaseUnreachable where there is no database.
    """
    files = _files(folder or sql_folder())
    with connect_url(database_url) as connection:
        connection.autocommit = True
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATIONS])  # released when the connection closes
        if connection.execute("SELECT to_regclass('migrations')").fetchone() == (None,):
            connection.execute(_RECORD)
        applied: dict[str, str] = dict(connection.execute("SELECT name, sha256 FROM migrations").fetchall())
        _refuse_strangers(applied, files)
        pending = [path for path in files if not _is_applied(path, applied)]
        for path in pending:
            _apply(connection, path)
    return [path.name for path in pending]


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.sql"))
    numbers: dict[str, Path] = {}
    for path in files:
        match = _NAME.fullmatch(path.name)
        if not match:
            raise MigrationError(f"{path}: a migration is named like 0003_what_it_does.sql")
        if match[1] in numbers:
            raise MigrationError(
                f"{path.name} and {numbers[match[1]].name} have the same number; renumber the newer one"
            )
        numbers[match[1]] = path
    return files


def _refuse_strangers(applied: dict[str, str], files: list[Path]) -> None:
    unknown = sorted(set(applied) - {path.name for path in files})
    if unknown:
        raise MigrationError(f"the database has {', '.join(unknown)}, which this version lacks: it is older; update it")


def _is_applied(path: Path, applied: dict[str, str]) -> bool:
    if path.name not in applied:
        return False
    if applied[path.name] != _sha256(path):
        raise MigrationError(f"{path.name} was edited after it was applied; undo the edit and add a new file instead")
    return True


def _apply(connection: psycopg.Connection, path: Path) -> None:
    try:
        with connection.transaction():
            connection.execute(path.read_bytes())
            connection.execute("INSERT INTO migrations (name, sha256) VALUES (%s, %s)", [path.name, _sha256(path)])
    except psycopg.Error as error:
        raise MigrationError(f"{path.name} does not apply: {error}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
