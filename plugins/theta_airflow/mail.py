"""Mail through Airflow's SMTP provider: what waits in Theta's outbox, carried by the connection `smtp_default`.

Nothing here waits long or fails a task: a server that is away is given up on within seconds, the outbox keeps the mail,
and the DAG `theta_watch` tries again.
"""

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import localtime
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from typing import Any

from airflow.providers.smtp.hooks.smtp import SmtpHook

from theta_ml.landing.database import connect, database_faults
from theta_ml.mail.message import Message
from theta_ml.mail.outbox import LEASE, Claim, claim, mark_failed, mark_sent
from theta_ml.settings import Settings, SettingsError, load_settings
from theta_ml.stage import StageRetry

log = logging.getLogger(__name__)

AWAY_SECONDS = 10
"""After so long a server that does not greet is away."""
ANSWER_SECONDS = 60
"""That it has for each answer then: many look into a mail before they take it, and one given up on comes twice."""
SENDING_SECONDS = LEASE.total_seconds() / 2
"""For all answers together, however many addressees there are: after LEASE another carries the mail too."""


class MessageHook(SmtpHook):
    """The provider's hook, for whole messages: its own `send_email_smtp` has no plain-text part and no Message-ID."""

    @property
    def timeout(self) -> int:
        return min(int(super().timeout), AWAY_SECONDS)

    @property
    def smtp_retry_limit(self) -> int:
        return 0  # the outbox tries again

    def send_message(self, message: EmailMessage) -> dict[str, Any]:
        """Addressees that the server refused where it took others.

        Raises SMTPException where it took none, TimeoutError where it took longer than SENDING_SECONDS.
        """
        client: Any = self._smtp_client  # the provider opened it
        client.sock.settimeout(ANSWER_SECONDS)
        with _cut_off(client.sock, SENDING_SECONDS):
            refused: dict[str, Any] = client.send_message(message)
        return refused


@contextmanager
def _cut_off(connection: socket, seconds: float) -> Iterator[None]:
    """Ends the connection after so long: a socket's own timeout begins anew with every byte that arrives."""
    ended = Event()

    def end() -> None:
        ended.set()
        socket.shutdown(connection, SHUT_RDWR)  # not an SSL socket's own, which is not made for a second thread

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except OSError as error:
        if not ended.is_set():
            raise
        raise TimeoutError(f"the server did not take the mail within {seconds:g} s") from error
    finally:
        timer.cancel()


def send(message: Message) -> dict[str, Any]:
    """Hands one message to the server; returns the addressees refused. Raises what smtplib and the provider raise."""
    hook = MessageHook()
    with hook:
        return hook.send_message(compose(message, hook.from_email))


def deliver(message_id: str) -> str:
    """Carries this mail, unless another does; says what became of it. Never raises for a server that is away."""
    try:
        settings = load_settings()
        with database_faults(), connect(settings) as connection:
            claimed = claim(connection, message_id)
        if claimed is None:
            return f"mail {message_id}: it has left, or somebody else carries it"
        error = _carry(settings, claimed)
    except (StageRetry, SettingsError) as fault:
        return f"mail {message_id} waits: {fault}"
    return f"mail waits in the outbox ({error}): {claimed.message.subject}" if error else _sent(claimed)


def post_waiting() -> int:
    """Carries whatever is due, each once; how many left. Raises StageRetry where Postgres is away."""
    settings, left = load_settings(), 0
    while True:
        with database_faults(), connect(settings) as connection:
            claimed = claim(connection)
        if claimed is None:
            return left
        error = _carry(settings, claimed)
        if error:
            log.warning("mail waits in the outbox (%s): %s", error, claimed.message.subject)
        else:
            left += 1
            log.info("%s", _sent(claimed))


def _carry(settings: Settings, claimed: Claim) -> str | None:
    """Sends, and writes down what came of it: why it did not leave, or None."""
    try:
        refused = send(claimed.message)
    except Exception as error:  # noqa: BLE001  whatever it was, the outbox says so, and the mail is tried again
        reason = _reason(error)
        with database_faults(), connect(settings) as connection:
            stands = mark_failed(connection, claimed, reason)
        return reason if stands else f"{reason}; it is not tried again: it was replaced, or taken back"
    with database_faults(), connect(settings) as connection:
        stands = mark_sent(connection, claimed, f"refused: {', '.join(refused)}" if refused else None)
    if not stands:
        log.warning("this mail was replaced, or taken back, while it left: %s", claimed.message.subject)
    return None


def _reason(error: BaseException) -> str:
    """With what the provider's own error came from, which says more."""
    first = " ".join(str(error).split()) or type(error).__name__
    return f"{first}: {_reason(error.__context__)}" if error.__context__ else first


def _sent(claimed: Claim) -> str:
    return f"mail sent: {claimed.message.subject}"


def compose(mail: Message, sender: str | None = None) -> EmailMessage:
    """Text, HTML and its pictures, ready to go; `sender` is the connection's own, where it has one."""
    message = EmailMessage()
    message["Subject"] = mail.subject
    message["From"] = sender or mail.sender
    message["To"] = mail.to
    message["Date"] = localtime()
    message["Message-ID"] = mail.message_id
    if mail.references:
        message["In-Reply-To"] = mail.references
        message["References"] = mail.references
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    page = message.get_body(("html",))
    assert page is not None
    for name, png in mail.images.items():
        page.add_related(
            base64.b64decode(png), "image", "png", cid=f"<{name}>", disposition="inline", filename=f"{name}.png"
        )
    return message
