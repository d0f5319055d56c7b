"""`theta ledger` and `theta champion`: what was decided, and who is champion."""

import json
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click

from theta_ml.month import Month
from theta_ml.settings import load_settings

if TYPE_CHECKING:
    from theta_ml.registry.ledger import Entry


class MonthType(click.ParamType[str]):
    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(Month.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--month", type=MonthType(), metavar="YYYY-MM", help="Only the rows of this month.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def ledger(month: str | None, limit: int | None, as_json: bool) -> None:
    """What was decided for each run, and why; newest last.

    A row that a person wrote (`theta promote`, `theta rollback`) has their name, their reason, and until when it holds.
    """
    from theta_ml.registry.ledger import decisions, open_ledger, row

    with open_ledger(load_settings()) as connection:
        rows = [row(entry) for entry in decisions(connection, month, limit)]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print(rows)
    elif month:
        click.echo(f"No run has decided on {month}.")
    else:
        click.echo("No run has decided yet. `theta retrain --month YYYY-MM --bootstrap` makes the first champion.")


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for title in ("decided, UTC", "month", "decision", "version", "champion"):
        table.add_column(title, no_wrap=title != "decided, UTC")
    table.add_column("why")
    runs = Counter(row["month"] for row in rows)
    for row in rows:
        before, after = (str(row[f"champion_{when}"] or "-") for when in ("before", "after"))
        champion = after if before == after else f"{before} → {after}"
        version = str(row["candidate_version"] or "-")
        decided = row["decided_at"][:16].replace("T", "\n")
        why = f"{_why(row)}\nrun {row['run_id']}" if runs[row["month"]] > 1 else _why(row)
        table.add_row(decided, row["month"], row["decision"], version, champion, Text(why))
    Console().print(table)


def _why(row: dict[str, Any]) -> str:
    return "\n".join([row["sentence"], *_word(row)])


def _word(row: dict[str, Any]) -> list[str]:
    """A person's, and until when it holds; of an approval the reason names who gave it."""
    if not row["reason"]:
        return []
    who = "" if row["reason"] == f"approved by {row['actor']}" else f"{row['actor']}: "
    until = f", until {shown(row['expires_at'])}" if row["expires_at"] else ""
    return [f"{who}{row['reason']}{until}"]


def shown(instant: str) -> str:
    """An instant of `theta ledger --json`, for people."""
    return f"{instant[:16].replace('T', ' ')} UTC"


class Instant(click.ParamType[datetime]):
    """A day, which stands for its last instant, or an instant; in UTC where it names no zone."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if len(value) == len("2026-03-31"):
                return datetime.combine(date.fromisoformat(value) + timedelta(days=1), time(), UTC) - _TICK
            instant = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date; write 2026-03-31, or 2026-03-31T12:00", param, ctx)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


_TICK = timedelta(microseconds=1)


@click.command()
@click.option("--at", type=Instant(), help="A day (its end), or an instant, in UTC: who was champion then?")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; null where there was none.")
def champion(at: datetime | None, as_json: bool) -> None:
    """Which model is, or was, in production, by the ledger.

    \b
    theta champion
    theta champion --at 2026-03-15
    """
    from theta_ml.registry.ledger import last_crowning, open_ledger, row

    with open_ledger(load_settings()) as connection:
        entry = last_crowning(connection, at)
    found = entry and {"version": entry.champion_after, **row(entry)}
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif found:
        tell(found)
    else:
        click.echo("There was no champion then." if at else "There is no champion yet; `theta retrain --bootstrap`.")


def tell(found: dict[str, Any]) -> None:
    """The champion that a row made."""
    since = shown(found["decided_at"])
    click.echo(f"version {found['champion_after']}, trained up to {found['month']}, champion since {since}")
    click.echo(_why(found))


def told(entry: "Entry", as_json: bool) -> None:
    """What a person's word came to."""
    from theta_ml.registry.ledger import row

    written = row(entry)
    if as_json:
        click.echo(json.dumps(written, indent=2, ensure_ascii=False))
    else:
        click.echo(_why(written))
