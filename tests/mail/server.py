"""A real mail server in this process, which a test turns off and on."""

import asyncio
import email.policy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

from aiosmtpd.controller import Controller

from theta_ml.bench.stack import free_ports
from theta_ml.mail.message import Message


class MailServer:
    """Keeps what it is sent; refuses addressees that begin with `nobody`."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.received: list[EmailMessage] = []
        self.seconds_an_addressee = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        controller = Controller(self, "127.0.0.1", self.port)
        controller.start()
        try:
            yield
        finally:
            controller.stop()

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.seconds_an_addressee)
        if address.startswith("nobody"):
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.received.append(BytesParser(EmailMessage, policy=email.policy.default).parsebytes(envelope.content))
        return "250 taken"

    @property
    def connection(self) -> str:
        """As Airflow's `smtp_default`, for its environment variable."""
        extra = {"disable_ssl": True, "disable_tls": True}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.port, "extra": extra})

    @property
    def ids(self) -> list[str]:
        return sorted(str(mail["Message-ID"]) for mail in self.received)


def message(name: str, **changes: Any) -> Message:
    standing = {
        "subject": f"Theta 2026-02: {name}", "text": "A mail.", "html": "<p>A mail.</p>", "sender": "theta@theta.test",
        "to": "engineers@theta.test", "message_id": f"<{name}@theta.test>",
        "references": "<theta.month.2026-02@theta.test>",
    }  # fmt: skip
    return Message(**(standing | changes))
