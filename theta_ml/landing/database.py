"""Connections to the landing zone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageRetry

VARIABLE = "THETA_DATABASE_URL"
_DEFAULTS = {"connect_timeout": "10", "application_name": "theta"}


class DatabaseUnreachable(StageRetry):
    """No connection came about; the message names the setting, the host and the server's reason, never the password."""


def connect(settings: Settings) -> psycopg.Connection:
    """A connection in UTC; as a context manager it commits (or rolls back) and closes at the end of the block.

    Raises SettingsError where no database is set or its URL makes no sense, DatabaseUnreachable where none answers.
    """
    return connect_url(settings.require_database())


def connect_url(url: str) -> psycopg.Connection:
    """As `connect`, for a URL such as `postgresql://user:password@host:port/theta`."""
    parameters = _parse(url)
    try:
        options = f"{parameters.pop('options', '')} -c timezone=UTC".strip()
        return psycopg.connect(**{**_DEFAULTS, **parameters}, options=options)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(_unreachable(parameters, error)) from None


def _parse(url: str) -> dict[str, object]:
    try:
        parameters: dict[str, object] = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # its message may quote a part of the URL, and so the password
        parameters = {"host": "@"}
    if any("@" in str(parameters.get(key, "")) for key in ("host", "port")):  # the tail of a password, unescaped
        raise SettingsError(
            f"{VARIABLE} is not a Postgres URL; write it as postgresql://user:password@host:port/theta, "
            "with %40 for an @ in the password"
        )
    return parameters


@contextmanager
def database_faults() -> Iterator[None]:
    """Raises DatabaseUnreachable where the database goes away inside, SettingsError where it has no schema."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(f"the database ({VARIABLE}) went away: {' '.join(str(error).split())}") from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise SettingsError(
            f"the database ({VARIABLE}) lacks Theta's tables: run `theta up` or `theta import`"
        ) from error


def sql_folder() -> Path:
    """`sql/` at the root of the repository: numbered migrations, and `queries/`. Raises SettingsError if absent."""
    folder = Path(__file__).parents[2] / "sql"
    if not folder.is_dir():
        raise SettingsError(f"no folder {folder}: Theta runs from its repository; install it with `pip install -e .`")
    return folder


def query(name: str) -> bytes:
    """The text of `sql/queries/NAME.sql`."""
    return (sql_folder() / "queries" / f"{name}.sql").read_bytes()


def _unreachable(parameters: dict[str, object], error: psycopg.OperationalError) -> str:
    place = f"{parameters.get('host', 'the local socket')}:{parameters.get('port', 5432)}"
    reason = " ".join(str(error).split()) or "no reason was given"
    password = str(parameters.get("password") or "")
    if password:
        reason = reason.replace(password, "…")
    database = parameters.get("dbname", "")
    return f"cannot connect to the database {database} at {place} ({VARIABLE}): {reason}; `theta up` starts a local one"
