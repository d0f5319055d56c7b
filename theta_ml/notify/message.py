"""What a mail says: the verdict's sentence, the numbers, and where to look. Never a word of a conversation."""

import hashlib
from dataclasses import dataclass
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from theta_ml.evaluation.verdict import Check

DAG = "theta_retrain"


@dataclass(frozen=True)
class Message:
    """A mail, ready for whoever carries it: each field but the bodies is a header as it stands."""

    subject: str
    text: str
    html: str
    sender: str
    to: str
    """Addresses, separated by commas."""
    message_id: str
    """With its angle brackets. The same for the same run and decision, so that a mail sent twice is seen once."""
    references: str
    """A Message-ID that all mails about a month share, so that they make one thread."""


@dataclass(frozen=True)
class Link:
    title: str
    url: str


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
    templates = _templates()
    domain = sender.rpartition("@")[2].strip("> ") or "localhost"
    return Message(
        subject=f"Theta {letter.month}: {letter.decision}",
        text=templates.get_template("letter.txt").render(letter=letter),
        html=templates.get_template("letter.html").render(letter=letter),
        sender=sender,
        to=to,
        message_id=f"<theta.{_digest(letter.run_id, letter.decision)}@{domain}>",
        references=f"<theta.{letter.month}@{domain}>",
    )


def airflow_run(airflow: str, run_id: str, task: str | None = None) -> str:
    """Airflow's page of the run, or of one of its tasks."""
    page = f"{airflow}/dags/{DAG}/runs/{quote(run_id, safe='')}"
    return f"{page}/tasks/{quote(task, safe='')}" if task else page


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("theta_ml.notify"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
