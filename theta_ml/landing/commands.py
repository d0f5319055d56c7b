"""`theta import`, `theta export`, `theta simulate` and `theta quarantine`."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from theta_ml.month import Month

if TYPE_CHECKING:
    from theta_ml.landing.export import Span
    from theta_ml.landing.importing import FileImport, Importer, Progress

DEFAULT_START = "2026-01"


@click.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--source", metavar="NAME", help="Where they come from; overrides what the lines say.")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the conversations that have no date.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def import_(files: tuple[Path, ...], source: str | None, day: datetime | None, as_json: bool) -> None:
    """Land conversations: JSONL, plain or .gz, a conversation a line.

    \b
    {"id": "c1", "source": "app", "created_at": "2026-02-03T10:00:00Z", "messages": [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!", "rating": 1}]}

    Importing again adds nothing. A line that cannot land is kept in the table rejected_rows with file, line and
    reason; the others land. Interrupted, it keeps what has landed, and the same command completes it.
    """
    with _importer(source, day.date() if day else None, as_json) as (importer, progress):
        for path in files:
            importer.run(path, progress(path.name))


@contextmanager
def _importer(source: str | None, day: date | None, as_json: bool) -> Iterator[tuple["Importer", Any]]:
    """An importer and a bar; prints at the end what landed, however it ended."""
    import psycopg

    from theta_ml.landing.database import DatabaseUnreachable, connect
    from theta_ml.landing.importing import Importer
    from theta_ml.landing.lines import UnreadableFile
    from theta_ml.landing.migrations import MigrationError, migrate
    from theta_ml.settings import load_settings

    fault, code = "", 0
    try:
        settings = load_settings()
        migrate(settings.require_database())
        with connect(settings) as connection:
            importer = Importer(connection, source, day)
            try:
                with _bars() as progress:
                    yield importer, progress
            except UnreadableFile as error:
                fault, code = str(error), 1
            except KeyboardInterrupt:
                fault, code = "interrupted; what has landed stays, run the same command again to complete it", 130
            except psycopg.OperationalError as error:
                fault, code = f"the database went away ({' '.join(str(error).split())}); run the command again", 1
    except (DatabaseUnreachable, MigrationError) as error:
        raise click.ClickException(str(error)) from None
    _print(importer.done, as_json)
    useless = [each.file for each in importer.done if _useless(each)]
    if useless and not code:
        fault, code = f"not one line of {', '.join(useless)} is a conversation", 65
    if code:
        click.echo(f"theta: {fault}", err=True)
        sys.exit(code)


def _useless(done: "FileImport") -> bool:
    """Whether none of the file's lines is a conversation, landed now or before, or one that is turned away."""
    from theta_ml.landing.chunk import TURNED_AWAY

    counts = done.counts
    sound = sum(done.reasons[reason] for reason in TURNED_AWAY)
    return counts.rejected > 0 and not counts.conversations + counts.duplicates + sound


@contextmanager
def _bars() -> Iterator[Any]:
    """`progress(name)` gives the callback that draws a file's bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[landed]}"))
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:

        def progress(name: str) -> "Progress":
            task = bar.add_task(name, total=None, landed="")

            def show(done: int, total: int, messages: int) -> None:
                bar.update(task, completed=done, total=total, landed=f"{messages:,} messages")

            return show

        yield progress


def _print(imports: Iterable["FileImport"], as_json: bool) -> None:
    rows = [each.as_json() for each in imports]
    if as_json:
        totals = {
            name: sum(row[name] for row in rows) for name in ("conversations", "messages", "duplicates", "rejected")
        }
        click.echo(json.dumps({**totals, "files": rows}, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['file']}: {row['conversations']:,} conversations with {row['messages']:,} messages landed, "
            f"{row['duplicates']:,} known before, {row['rejected']:,} rejected, in {row['seconds']:.1f} s"
        )
        for reason, lines in row["reasons"].items():
            click.echo(f"  {lines:,} × {reason}")
        if row["rejected"]:
            click.echo(f"  kept in rejected_rows WHERE batch_id = {row['batch_id']}")


def _month(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return str(Month.parse(value)) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--month", metavar="YYYY-MM", callback=_month, help="Of this month only.")
@click.option("--from", "first", metavar="YYYY-MM", callback=_month, help="From this month on.")
@click.option("--to", "last", metavar="YYYY-MM", callback=_month, help="Until the end of this month.")
@click.option("--output", default="-", metavar="FILE", help="Where to; compressed where it ends in .gz, - for stdout.")
@click.option("--raw", is_flag=True, help="As they landed: with names, addresses and whatever people said.")
def export(month: str | None, first: str | None, last: str | None, output: str, raw: bool) -> None:
    """Write conversations as JSONL that `theta import` takes back; all there are, unless months are named.

    Personal data and secrets are redacted, users and authors stand under the pseudonyms that snapshots use. A file
    appears when it is complete.
    """
    from theta_ml.landing.database import DatabaseUnreachable
    from theta_ml.landing.export import Span

    if month and (first or last):
        raise click.UsageError("--month names one month, --from and --to a range: give one or the other")
    if first and last and last < first:
        raise click.UsageError(f"--to {last} lies before --from {first}: there is no month between them")
    if raw:
        click.echo("theta: this export is not redacted: it holds personal data; keep it safe, delete it soon", err=True)
    try:
        conversations, messages = _export(Span.of(month or first, month or last), output, raw)
    except BrokenPipeError:
        raise  # `theta export | head` is no fault
    except (DatabaseUnreachable, OSError) as error:
        raise click.ClickException(str(error)) from None
    how = "raw" if raw else "redacted"
    click.echo(f"{output}: {conversations:,} conversations with {messages:,} messages, {how}", err=True)


def _export(span: "Span", output: str, raw: bool) -> tuple[int, int]:
    """Conversations and messages written."""
    import psycopg
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from theta_ml.landing.database import connect, database_faults
    from theta_ml.landing.export import count, export_pieces
    from theta_ml.landing.months import hold_months
    from theta_ml.landing.whole_file import whole_file
    from theta_ml.privacy.recogniser import load_recogniser
    from theta_ml.settings import load_settings

    settings = load_settings()
    recogniser = None if raw else load_recogniser(settings.recogniser)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    conversations = messages = 0
    with database_faults(), connect(settings) as connection, whole_file(output) as file:
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        hold_months(connection)
        with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("conversations", total=count(connection, span))
            for piece in export_pieces(connection, span, raw, recogniser):
                file.write(piece.lines)
                conversations, messages = conversations + piece.conversations, messages + piece.messages
                bar.update(task, completed=conversations)
    return conversations, messages


@click.command()
@click.option("--months", type=click.IntRange(min=1, max=120), default=4, show_default=True)
@click.option("--seed", default=7, show_default=True, help="The same seed lands the same conversations.")
@click.option("--start", default=DEFAULT_START, show_default=True, callback=_month, help="First month, YYYY-MM.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def simulate(months: int, seed: int, start: str, as_json: bool) -> None:
    """Land months of plausible conversations, for a demo.

    A normal month, one whose topics drift, one whose feed is damaged, a quiet one; then again. Simulating again with
    the same seed adds nothing. The files stay in $THETA_HOME/simulated.
    """
    from theta_ml.landing.simulation import month_lines
    from theta_ml.settings import load_settings

    folder = load_settings().home / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    with _importer(None, None, as_json) as (importer, progress):
        for index in range(months):
            path = folder / f"seed-{seed}-{Month.parse(start).shift(index)}.jsonl"
            path.write_text("".join(f"{line}\n" for line in month_lines(Month.parse(start), index, seed)))
            importer.run(path, progress(path.name))


@click.command()
@click.option("--month", metavar="YYYY-MM", callback=_month, help="Of this month only.")
@click.option("--json", "as_json", is_flag=True, help="Print each conversation's id, rule and reason as JSON.")
def quarantine(month: str | None, as_json: bool) -> None:
    """What the newest snapshots set aside, and why: counts by rule; with --json which conversations.

    The rules are those of expectations/ with "quarantine": true. No word of a conversation is shown.
    """
    from dataclasses import asdict

    from theta_ml.landing.database import connect, database_faults
    from theta_ml.landing.quarantine import set_aside_newest
    from theta_ml.settings import load_settings
    from theta_ml.stage import StageRetry

    try:
        with database_faults(), connect(load_settings()) as connection:
            rows = [asdict(aside) for aside in set_aside_newest(connection, month)]
    except StageRetry as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print_rules(rows)
    else:
        click.echo(f"Nothing{f' of {month}' if month else ''} is set aside.")


def _print_rules(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for title in ("month", "rule", "conversations"):
        table.add_column(title, justify="right" if title == "conversations" else "left")
    table.add_column("why")
    counted = Counter((row["month"], row["rule"], row["reason"]) for row in rows)
    for (month, rule, reason), count in sorted(counted.items(), key=lambda item: (item[0][0], -item[1], item[0])):
        table.add_row(month, Text(rule), f"{count:,}", Text(f"the conversation {reason}"))
    Console().print(table)
