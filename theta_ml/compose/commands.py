"""`theta compose …`: the containers' env file, and what runs inside them."""

import logging
import os
import sys
from pathlib import Path

import click

from theta_ml.settings import SettingsError


@click.group()
def compose() -> None:
    """Theta in containers: docker-compose.yaml's secrets, and what its containers run.

    \b
    theta compose init                # once: .env, with generated secrets
    docker-compose up -d --build
    eval "$(theta compose env)"       # from here on `theta` talks to the containers
    theta retrain --month 2026-02 --bootstrap --wait
    """


_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where docker-compose.yaml is; by default beside the installed package.",
)


@compose.command()
@_folder
def init(folder: Path | None) -> None:
    """Write .env with generated passwords and keys (mode 0600). What it holds already stays as it is."""
    from theta_ml.compose.env_file import ENV_FILE, complete

    place = folder or _repository()
    added = complete(place)
    secrets = sum(not name.endswith("_PORT") and name.startswith("STACK_") for name in added)
    said = f"{secrets} secrets and {len(added) - secrets} other lines written" if added else "nothing was missing"
    click.echo(f"{place / ENV_FILE}: {said}")
    click.echo(
        'next: docker-compose up -d --build (or: docker compose up -d --build), then eval "$(theta compose env)", and '
        "`theta` here talks to the containers; docs/compose.md tells more"
    )


@compose.command()
@_folder
def env(folder: Path | None) -> None:
    """Print, for a shell to evaluate, the settings with which `theta` here talks to the containers.

    They hold passwords: eval "$(theta compose env)".
    """
    from theta_ml.compose.env_file import exports, read, seen_from_here

    click.echo(exports(seen_from_here(read(folder or _repository()))), nl=False)


@compose.command(hidden=True)
@click.argument("role")
def run(role: str) -> None:
    """Be the container of a role: its program, started, looked after and ended."""
    from theta_ml.compose.roles import ROLES, program, secrets_of
    from theta_ml.settings import load_settings

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    if role not in ROLES:
        raise click.BadParameter(f"{role!r} is none of {', '.join(ROLES)}")
    settings, secrets = load_settings(), secrets_of(os.environ, role)
    started = program(role, settings, secrets)
    if role == "api-server":
        _write_passwords(settings.airflow_user, secrets.airflow_password)
    from theta_ml.compose.roles import containers
    from theta_ml.compose.watch import blameless, probe
    from theta_ml.compose.watch import run as look_after
    from theta_ml.local.health import Probes
    from theta_ml.local.workers import Broker

    probes = Probes(containers(), secrets)
    broker = Broker(settings.celery_broker.get_secret_value()) if settings.celery_broker else None
    sys.exit(look_after(started, probe(role, probes, broker), lambda: blameless(role, probes, broker)))


@compose.command(hidden=True)
def prepare() -> None:
    """Be the container `init`: databases, their tables, the bucket, Airflow's pool."""
    import psycopg

    from theta_ml.compose.prepare import prepare as make_ready
    from theta_ml.compose.roles import secrets_of
    from theta_ml.landing.migrations import MigrationError
    from theta_ml.local.layout import StackError
    from theta_ml.settings import load_settings

    try:
        make_ready(
            load_settings(), secrets_of(os.environ, "scheduler"), lambda name, what: click.echo(f"{name}: {what}")
        )
    except (StackError, MigrationError, psycopg.Error) as error:
        raise click.ClickException(str(error)) from None


def _write_passwords(user: str, password: str) -> None:
    import json

    from theta_ml.compose.roles import passwords_file
    from theta_ml.local.layout import write_private

    passwords_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(passwords_file(), json.dumps({user: password}) + "\n")


def _repository() -> Path:
    from theta_ml.local.plan import repository

    folder = repository()
    if not (folder / "docker-compose.yaml").exists():
        raise SettingsError(f"no docker-compose.yaml in {folder}: pass --folder with where it is")
    return folder
