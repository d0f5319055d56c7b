"""`theta ledger` and `theta champion`."""

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click

from theta_ml.settings import load_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def ledger(as_json: bool) -> None:
    """What was decided for each run, and why; newest last."""
    from theta_ml.registry.ledger import decisions, open_ledger, row

    with open_ledger(load_settings()) as connection:
        rows = [row(entry) for entry in decisions(connection)]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print(rows)
    else:
        click.echo("No run has decided yet. `theta retrain --month YYYY-MM --bootstrap` makes the first champion.")


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for title in ("month", "decision", "version", "champion"):
        table.add_column(title, no_wrap=True)
    table.add_column("why")
    for row in rows:
        before, after = (str(row[f"champion_{when}"] or "-") for when in ("before", "after"))
        champion = after if before == after else f"{before} → {after}"
        table.add_row(
            row["month"], row["decision"], str(row["candidate_version"] or "-"), champion, Text(row["sentence"])
        )
    Console().print(table)


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
    """Which model is, or was, in production."""
    from theta_ml.registry.ledger import last_crowning, open_ledger, row

    with open_ledger(load_settings()) as connection:
        entry = last_crowning(connection, at)
    found = entry and {"version": entry.champion_after, **row(entry)}
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif found:
        click.echo(
            f"version {found['version']}, trained up to {found['month']}, champion since {found['decided_at'][:19]} UTC"
        )
        click.echo(found["sentence"])
    else:
        click.echo("There was no champion then." if at else "There is no champion yet; `theta retrain --bootstrap`.")
