"""The role that stages have in Postgres: it owns the landing zone's database, and has no part in the others.

A stage is told how to reach its database. As a superuser it would reach Airflow's and MLflow's on the same server too.
"""

from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_OTHERS = """
SELECT found.* FROM (
    -- A column's sequence goes with its table.
    SELECT 'TABLE' AS kind, oid::regclass::text AS place, 'pg_class'::regclass AS catalogue, oid FROM pg_class
    WHERE relowner <> %(role)s::regrole AND relnamespace = ANY (%(schemas)s) AND relkind IN ('r', 'p', 'v', 'm', 'S')
      AND NOT (relkind = 'S' AND EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i')))
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text, 'pg_proc'::regclass, oid FROM pg_proc
    WHERE proowner <> %(role)s::regrole AND pronamespace = ANY (%(schemas)s)
    UNION ALL
    SELECT 'TYPE', oid::regtype::text, 'pg_type'::regclass, oid FROM pg_type
    WHERE typowner <> %(role)s::regrole AND typnamespace = ANY (%(schemas)s) AND typtype IN ('d', 'e')
) AS found
-- An extension's objects stay its own.
WHERE NOT EXISTS (SELECT FROM pg_depend WHERE classid = catalogue AND objid = found.oid AND deptype = 'e')"""
_SCHEMAS = r"SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


def own(admin_url: str, database_url: str, closed: tuple[str, ...]) -> None:
    """Makes the role and password of `database_url`, and gives that database to it with all that is in it.

    `closed`: databases of the same server to which from now on nobody connects without being told to. To no effect
    where all is so already. `admin_url` is a superuser's. Raises psycopg.Error.
    """
    parts = conninfo_to_dict(database_url)
    role, database = sql.Identifier(str(parts["user"])), sql.Identifier(str(parts["dbname"]))
    with psycopg.connect(admin_url, autocommit=True) as admin:
        _make_role(admin, str(parts["user"]), str(parts["password"]))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
        for name in map(sql.Identifier, closed):
            admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
    with psycopg.connect(make_conninfo(admin_url, dbname=str(parts["dbname"]))) as admin:
        _give(admin, str(parts["user"]))


def _make_role(admin: psycopg.Connection[Any], name: str, password: str) -> None:
    """Its password is sent as its hash: a statement may end in the server's log."""
    if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount:
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    digest = admin.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    admin.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER PASSWORD {}").format(sql.Identifier(name), sql.Literal(digest))
    )


def _give(admin: psycopg.Connection[Any], name: str) -> None:
    """What somebody else made in this database: a superuser, before there was the role."""
    role = sql.Identifier(name)
    schemas = admin.execute(_SCHEMAS).fetchall()
    for schema in (each for _, each in schemas if each != "public"):
        admin.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), role))
    found = admin.execute(_OTHERS, {"role": role.as_string(admin), "schemas": [oid for oid, _ in schemas]}).fetchall()
    for kind, place, *_ in found:
        admin.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), sql.SQL(place), role))
