"""Reads the Maildir that the local mailbox fills."""

import email.policy
import mailbox
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path

_LINK = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class Mail:
    """One mail as a reader sees it."""

    date: str
    """ISO, UTC: when it was sent, or where it does not say, when it arrived."""
    sender: str
    to: str
    subject: str
    message_id: str
    text: str
    links: list[str]


def read(folder: Path) -> list[Mail]:
    """Every mail of the Maildir, newest last; none where the folder is not there yet."""
    if not folder.is_dir():
        return []
    box = mailbox.Maildir(folder, factory=None, create=False)
    mails = [_mail(box.get_bytes(key), datetime.fromtimestamp(box[key].get_date(), UTC)) for key in box.keys()]  # noqa: SIM118
    return sorted(mails, key=lambda mail: mail.date)


def _mail(raw: bytes, arrived: datetime) -> Mail:
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(raw)
    body = message.get_body(("plain", "html"))
    text = body.get_content() if body else ""
    date = parsedate_to_datetime(message["Date"]) if message["Date"] else arrived
    return Mail(
        date=date.astimezone(UTC).isoformat(timespec="seconds"),
        sender=str(message["From"] or ""),
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        message_id=str(message["Message-ID"] or "").strip(),
        text=text,
        links=list(dict.fromkeys(_LINK.findall(text))),
    )
