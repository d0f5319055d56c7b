"""What a mail is: two bodies, pictures, and the headers that put it in its place. Never a word of a conversation."""

import hashlib
from dataclasses import dataclass, field
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

DAG = "theta_retrain"


@dataclass(frozen=True)
class Message:
    """A mail, ready for whoever carries it: each field but bodies and images is a header as it stands."""

    subject: str
    text: str
    html: str
    sender: str
    to: str
    """Addresses, separated by commas."""
    message_id: str
    """With its angle brackets. The same for the same event, so that a mail sent twice is seen once."""
    references: str
    """A Message-ID that all mails about a month share, so that they make one thread."""
    images: dict[str, str] = field(default_factory=dict)
    """Content-ID → a PNG in base64, which the HTML shows as `cid:…`."""


@dataclass(frozen=True)
class Link:
    title: str
    url: str


def message_id(sender: str, *event: str) -> str:
    """The Message-ID of an event: the same parts always name the same mail."""
    return f"<theta.{_digest(*event)}@{_domain(sender)}>"


def thread(sender: str, month: str) -> str:
    """The Message-ID, of no mail itself, that every mail about the month refers to."""
    return f"<theta.month.{month}@{_domain(sender)}>"


def airflow_run(airflow: str, run_id: str, task: str | None = None, number: int | None = None) -> str:
    """Airflow's page of the run, or of one of its tasks; of a mapped one, of its instance `number`."""
    page = f"{airflow}/dags/{DAG}/runs/{quote(run_id, safe='')}"
    if task is None:
        return page
    return f"{page}/tasks/{quote(task, safe='')}{'' if number is None else f'/mapped/{number}'}"


def templates(package: str) -> Environment:
    """The templates of a package's folder `templates`; what they show is escaped where it becomes HTML."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].strip("> ") or "localhost"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
