"""How a mail to the engineers is laid out, whatever it is about: a sentence, numbers, pictures, checks, links.

It is read on a telephone and on a desk, on light ground and on dark, with pictures or without.
"""

from dataclasses import dataclass, field
from typing import Literal

from theta_ml.mail.message import Link, Message, message_id, templates, thread
from theta_ml.settings import Settings

COLOURS = {"good": "#2da44e", "bad": "#d1453b", "ask": "#c27803"}
"""Middle tones, as the pictures have: each can be read on white and on black."""
LONGEST_SUBJECT = 120


@dataclass(frozen=True)
class Figure:
    """A number that matters, shown large."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """What was looked at, and whether it held."""

    name: str
    value: str
    asked: str
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Picture:
    name: str
    """Content-ID, a word."""
    says: str
    """What it shows, for whoever sees no pictures."""
    png: str
    """In base64."""


@dataclass(frozen=True)
class Letter:
    """What one mail says. Names and notes may come from data: they are escaped where they become HTML."""

    month: str
    outcome: str
    """One or two words, for example "rejected"."""
    headline: str
    """The number that matters, for the subject; may be empty."""
    tone: Literal["good", "bad", "ask"]
    sentence: str
    links: list[Link]
    """The first is what to do next."""
    footer: str
    figures: list[Figure] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """One line: a name that comes from data may hold several."""
        head = f"Theta {self.month}: {self.outcome}" if self.month else f"Theta: {self.outcome}"
        return " ".join(f"{head}, {self.headline}".rstrip(", ").split())[:LONGEST_SUBJECT]

    @property
    def failed(self) -> list[Line]:
        return [line for line in self.lines if not line.passed]

    @property
    def passed(self) -> list[Line]:
        return [line for line in self.lines if line.passed]


def compose(letter: Letter, settings: Settings, *event: str) -> Message:
    """`event` names the mail: the same for the same event, so that a mail sent twice is seen once."""
    pages, shown = templates("theta_ml.mail"), {"letter": letter, "colour": COLOURS[letter.tone], "colours": COLOURS}
    sender = settings.mail_from
    return Message(
        subject=letter.subject,
        text=pages.get_template("letter.txt").render(shown),
        html=pages.get_template("letter.html").render(shown),
        sender=sender,
        to=settings.mail_to,
        message_id=message_id(sender, *event),
        references=thread(sender, letter.month) if letter.month else "",
        images={picture.name: picture.png for picture in letter.pictures},
    )
