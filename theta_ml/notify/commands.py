"""`theta mail`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from theta_ml.settings import Settings, SettingsError, load_settings

LOCAL_MAILBOX = "127.0.0.1"
"""What `theta up` writes down as the SMTP host when it starts a mailbox of its own."""


@click.command()
@click.option(
    "--outbox", "of_outbox", is_flag=True, help="Show what waits to be sent, how often it was tried, and why."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: of mails date, from, to, subject, text, links.")
def mail(of_outbox: bool, as_json: bool) -> None:
    """Read what the local mailbox caught, newest last; or see what waits to be sent.

    A mail that waits is tried again by the DAG theta_watch, every five minutes, for as long as it takes.
    """
    settings = load_settings()
    if of_outbox:
        _show_outbox(settings, as_json)
    else:
        _show_mailbox(settings, as_json)


def _show_mailbox(settings: Settings, as_json: bool) -> None:
    from theta_ml.notify.mailbox import read

    if settings.smtp_host not in (None, LOCAL_MAILBOX):
        raise SettingsError(
            f"mail goes to {settings.mail_to} through {settings.smtp_host} (THETA_SMTP_HOST): read it there; "
            "unset that variable, and `theta up` starts a local mailbox"
        )
    mails = read(settings.home / "mail")
    if as_json:
        click.echo(json.dumps([_row(asdict(one)) for one in mails], indent=2, ensure_ascii=False))
    elif not mails:
        click.echo("No mail. A rejected or blocked month, or a failed run, sends one.")
    for one in () if as_json else mails:
        click.echo(f"{click.style(one.subject, bold=True)}\n{one.date}  {one.sender} to {one.to}\n\n{one.text}")


def _row(fields: dict[str, object]) -> dict[str, object]:
    """`from` is no name for a field of a class."""
    return {"date": fields.pop("date"), "from": fields.pop("sender"), **fields}


def _show_outbox(settings: Settings, as_json: bool) -> None:
    from theta_ml.landing.database import connect, database_faults
    from theta_ml.mail.outbox import waiting
    from theta_ml.stage import StageRetry

    try:
        with database_faults(), connect(settings) as connection:
            rows = [asdict(row) for row in waiting(connection)]
    except StageRetry as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=_instant))
    elif not rows:
        click.echo("Nothing waits.")
    for row in () if as_json else rows:
        click.echo(_line(row))


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds")


def _line(row: dict[str, Any]) -> str:
    tried = f"attempts: {row['attempts']} ({row['last_error'] or 'no answer yet'})" if row["attempts"] else "not tried"
    times = f"since {_instant(row['queued_at'])}, {tried}; next from {_instant(row['next_try_at'])}"
    return f"{click.style(row['subject'], bold=True)}\n  to {row['to']}, {times}"
