"""What a mail about a decision says: the verdict's sentence, the numbers, and where to look."""

from dataclasses import dataclass

from theta_ml.evaluation.verdict import Check
from theta_ml.mail.message import Link, Message, message_id, templates, thread


@dataclass(frozen=True)
class Letter:
    """What the templates show."""

    month: str
    decision: str
    sentence: str
    run_id: str
    champion: int | None
    """Version in production when the letter was written."""
    checks: list[Check]
    links: list[Link]


def compose(letter: Letter, sender: str, to: str) -> Message:
    pages = templates("theta_ml.notify")
    return Message(
        subject=f"Theta {letter.month}: {letter.decision}",
        text=pages.get_template("letter.txt").render(letter=letter),
        html=pages.get_template("letter.html").render(letter=letter),
        sender=sender,
        to=to,
        message_id=message_id(sender, letter.run_id, letter.decision),
        references=thread(sender, letter.run_id),
    )
