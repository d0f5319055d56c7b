"""The mailbox, spoken to in SMTP."""

import asyncio
import mailbox
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.pipeline.drive import until
from theta_ml.bench.stack import free_ports


@pytest.mark.parametrize("made_before", [False, True])
def test_a_mail_is_kept(tmp_path: Path, made_before: bool) -> None:
    folder, (port,) = tmp_path / "mail", free_ports(1)
    if made_before:
        folder.mkdir()
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "theta@localhost", "engineers@localhost", "blocked"
    message.set_content("2026-03 is blocked")
    server = subprocess.Popen([sys.executable, "-m", "theta_ml.local.mailbox", str(folder), str(port)])
    try:
        until("the mailbox listens", lambda: _sent(message, port), 20)
    finally:
        server.terminate()
        assert server.wait(10) == 0
    (kept,) = mailbox.Maildir(folder)
    assert kept["Subject"] == "blocked"


def _sent(message: EmailMessage, port: int) -> bool:
    try:
        asyncio.run(aiosmtplib.send(message, hostname="127.0.0.1", port=port))
    except aiosmtplib.SMTPConnectError:
        return False
    return True
