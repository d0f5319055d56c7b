"""The commands that start, show and end the local stack."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from theta_ml.local.status import Status

RUNNING_UNWELL = 1
NOT_RUNNING = 3
"""Exit status of `theta status`; 0 is healthy."""


@click.command()
def up() -> None:
    """Start PostgreSQL, MLflow, Airflow and a mailbox on this machine, and wait until all are healthy.

    State lives under THETA_HOME (default .theta). Ports are THETA_AIRFLOW_PORT, THETA_MLFLOW_PORT and
    THETA_MAILBOX_PORT. Where THETA_DATABASE_URL, MLFLOW_TRACKING_URI or THETA_SMTP_HOST is set, that one is used
    instead of a local one. Where THETA_CELERY_BROKER names a Redis, two Celery workers run Airflow's tasks. A second
    `theta up` starts what is not running and changes nothing else.
    """
    from theta_ml.local.layout import StackError
    from theta_ml.local.up import up as bring_up
    from theta_ml.settings import SettingsError

    begun = time.monotonic()
    with _Progress() as report:
        try:
            done = bring_up(report)
        except (StackError, SettingsError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise click.ClickException("stopped half way: `theta up` goes on, `theta down` cleans up") from None
    if not done.repaired:
        click.echo("already up, nothing to do")
    elif len(done.repaired) < len(done.plan.services):
        click.echo(f"was up; started again: {', '.join(done.repaired)}")
    else:
        click.echo(f"up in {time.monotonic() - begun:.0f} s")
    where()


@click.command()
def down() -> None:
    """End everything that `theta up` started here, also after a crash; the data stays."""
    from theta_ml.local.down import down as bring_down
    from theta_ml.local.layout import Layout, StackError
    from theta_ml.settings import home

    try:
        left = bring_down(Layout(home()), lambda name, what: click.echo(f"{name}: {what}"))
    except StackError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"down; ended {left} processes that no supervisor looked after" if left else "down")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(as_json: bool) -> None:
    """Show what runs, how it is, where it is, and which file holds the password.

    Exit status: 0 all is healthy, 1 something is not, 3 nothing runs.
    """
    from theta_ml.local.layout import Layout
    from theta_ml.local.status import status as look
    from theta_ml.settings import home

    found = look(Layout(home()))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found["running"]:
        left = f"; {found['left_over']} processes are left over, `theta down` ends them" if found["left_over"] else ""
        click.echo(f"not running (THETA_HOME is {found['home']}){left}")
    else:
        _table(found)
        where()
    sys.exit(0 if found["healthy"] else RUNNING_UNWELL if found["running"] else NOT_RUNNING)


@click.command()
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written.")
def logs(service: str, follow: bool) -> None:
    """Show the end of a service's log."""
    from theta_ml.local.layout import Layout
    from theta_ml.settings import home

    layout = Layout(home())
    known = sorted(path.stem for path in layout.logs.glob("*.log"))
    if service not in known:
        names = ", ".join(known) or f"none yet, run `theta up` (THETA_HOME is {layout.home})"
        raise click.ClickException(f"no log of {service!r}; there is: {names}")
    arguments = ["tail", "-n", "200", *(["-F"] if follow else []), str(layout.log(service))]
    sys.stdout.flush()
    os.execvp("tail", arguments)  # noqa: S606 (no shell is wanted)


class _Progress:
    """Says what becomes healthy: under a spinner on a terminal, as plain lines elsewhere."""

    def __enter__(self) -> Callable[[str, str], None]:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._begun = time.monotonic()
        self._spinner = self._console.status("starting")
        if self._console.is_terminal:
            self._spinner.start()
        return self._report

    def _report(self, name: str, what: str) -> None:
        self._console.print(f"{time.monotonic() - self._begun:6.1f} s  {name:<16} {what}", markup=False, soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self._spinner.stop()


def _table(found: "Status") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("service", "state", "pid", "healthy", "up", "memory", box=None, pad_edge=False)
    for service in found["services"]:
        uptime = "" if service["uptime_s"] is None else f"{service['uptime_s'] / 60:.0f} min"
        pid = str(service["pid"] or "")
        memory = f"{service['rss_bytes'] / 2**20:.0f} MiB"
        table.add_row(service["name"], service["state"], pid, service["fault"] or "yes", uptime, memory)
    Console(highlight=False).print(table)
    click.echo(f"resident memory: {found['rss_bytes'] / 2**30:.2f} GiB ({found['pss_bytes'] / 2**30:.2f} shared once)")


def where() -> None:
    from theta_ml.local.layout import Layout, read_json
    from theta_ml.settings import home

    layout = Layout(home())
    written = read_json(layout.settings)
    click.echo(f"Airflow   {written['airflow_url']}   login {written['airflow_user']}, password in {layout.passwords}")
    click.echo(f"MLflow    {written['mlflow_tracking_uri']}")
    click.echo(f"Mail      smtp://{written['smtp_host']}:{written['smtp_port']}")
