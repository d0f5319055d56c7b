"""Mail through Airflow's SMTP provider: what `theta_ml.notify` says, carried by the connection `smtp_default`."""

import base64
from email.message import EmailMessage
from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.smtp.hooks.smtp import SmtpHook

DATABASE = "theta_db"


class MessageHook(SmtpHook):
    """The provider's hook, for whole messages: its own `send_email_smtp` has no plain-text part and no Message-ID."""

    def send_message(self, message: EmailMessage) -> None:
        """Raises SMTPException where the server refuses; the task's retry tries again."""
        client: Any = self._smtp_client  # the provider opened it
        client.send_message(message)


def send(mail: dict[str, Any]) -> None:
    """Sends one message of the outbox, then marks it sent: at most a repeat with the same Message-ID, never a loss."""
    hook = MessageHook()
    with hook:
        hook.send_message(compose(mail, hook.from_email))
    PostgresHook(DATABASE).run(
        "UPDATE outbox SET sent_at = clock_timestamp() WHERE message_id = %s AND sent_at IS NULL",
        parameters=(mail["message_id"],),
    )


def compose(mail: dict[str, Any], sender: str | None) -> EmailMessage:
    """Text, HTML and its pictures of a `theta_ml.mail.message.Message`, ready to go."""
    message = EmailMessage()
    message["Subject"] = mail["subject"]
    message["From"] = sender or mail["sender"]
    message["To"] = mail["to"]
    message["Message-ID"] = mail["message_id"]
    if mail.get("references"):
        message["References"] = mail["references"]
    message.set_content(mail["text"])
    message.add_alternative(mail["html"], subtype="html")
    page = message.get_body(("html",))
    assert page is not None
    for name, png in mail.get("images", {}).items():
        page.add_related(
            base64.b64decode(png), "image", "png", cid=f"<{name}>", disposition="inline", filename=f"{name}.png"
        )
    return message
