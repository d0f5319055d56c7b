"""`theta mail`."""

import json
from dataclasses import asdict

import click

from theta_ml.settings import SettingsError, load_settings

LOCAL_MAILBOX = "127.0.0.1"
"""What `theta up` writes down as the SMTP host when it starts a mailbox of its own."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the mails as JSON: date, from, to, subject, text, links.")
def mail(as_json: bool) -> None:
    """Read what the local mailbox caught, newest last."""
    from theta_ml.notify.mailbox import read

    settings = load_settings()
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
