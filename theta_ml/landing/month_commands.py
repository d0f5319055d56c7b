"""`theta landing`: the months of the landing zone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from theta_ml.month import Month

if TYPE_CHECKING:
    import psycopg

    from theta_ml.landing.months import LandedMonth

_MEGABYTE = 1_000_000


class _MonthName(click.ParamType[str]):
    name = "YYYY-MM"

    def convert(self, value: str, parameter: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(Month.parse(value))
        except ValueError as error:
            self.fail(str(error), parameter, ctx)


@click.group()
def landing() -> None:
    """Months of the landing zone: list them, take one out of the pipeline's sight, bring it back.

    `landing_months` and `detached_months` (THETA_…) say when the daily theta_retain does it by itself.
    """


@landing.command()
@click.option("--json", "as_json", is_flag=True, help="Print the months as JSON.")
def months(as_json: bool) -> None:
    """What each month holds, and whether the pipeline sees it. Counts every row."""
    from theta_ml.landing.months import landed_months

    with _connected() as connection:
        rows = landed_months(connection)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        _print(rows)
    else:
        click.echo("Nothing has landed yet: `theta import` or `theta simulate` brings some.")


@landing.command()
@click.argument("month", type=_MonthName())
@click.option("--yes", is_flag=True, help="Though the pipeline still needs it.")
def detach(month: str, yes: bool) -> None:
    """Take MONTH out of the pipeline's sight: nothing reads it, and nothing of it lands.

    What is erased is erased there too; its ids stay known. `theta landing attach` brings it back.
    """
    from theta_ml.landing.detaching import detach as detach_month
    from theta_ml.landing.months import states
    from theta_ml.landing.retention import why_to_stay

    with _connected() as connection:
        why = why_to_stay(connection, month) if states(connection).get(month) == "attached" else None
        if why and not yes:
            raise click.ClickException(f"{why}: runs would not see it; `--yes` detaches it all the same")
        detach_month(connection, month)
    click.echo(f"{month} is detached; `theta landing attach {month}` brings it back")


@landing.command()
@click.argument("month", type=_MonthName())
def attach(month: str) -> None:
    """Bring a detached MONTH back."""
    from theta_ml.landing.detaching import attach as attach_month

    with _connected() as connection:
        attach_month(connection, month)
    click.echo(f"{month} is attached")


@contextmanager
def _connected() -> Iterator["psycopg.Connection"]:
    """A connection in autocommit mode; faults are one line."""
    from theta_ml.landing.database import connect, database_faults
    from theta_ml.settings import load_settings
    from theta_ml.stage import StageFailed, StageRetry

    try:
        with database_faults(), connect(load_settings()) as connection:
            connection.autocommit = True
            yield connection
    except (StageFailed, StageRetry) as error:
        raise click.ClickException(str(error)) from None


def _print(rows: list["LandedMonth"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("month", "state", "conversations", "messages", "MB"):
        table.add_column(title, justify="left" if title in ("month", "state") else "right")
    for row in rows:
        size = f"{row.bytes / _MEGABYTE:,.1f}"
        table.add_row(row.month, row.state, f"{row.conversations:,}", f"{row.messages:,}", size)
    Console().print(table)
