"""What a mail about a training says."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from theta_ml.mail.message import Link, Message, airflow_run, message_id, templates, thread
from theta_ml.settings import Settings
from theta_ml.training.oversight.course import Line, Subject
from theta_ml.training.oversight.overfitting import Overfitting
from theta_ml.training.oversight.picture import loss_picture
from theta_ml.training.oversight.sensors import Load

LOSSES = "losses"
"""Content-ID of the picture."""


@dataclass(frozen=True)
class News:
    """An event of a training, and how the training was at that moment."""

    event: str
    """Names the mail: the same for the same event, however often the training is started again."""
    title: str
    """End of the subject."""
    sentence: str
    step: int
    steps: int
    history: list[Line]
    load: Load
    remaining_seconds: float | None
    paused_seconds: float
    overfitting: Overfitting | None
    at: datetime
    live_url: str | None = None
    """Page of its curves in MLflow."""


def compose(news: News, subject: Subject, settings: Settings) -> Message:
    """Draws the picture too, which takes about a second the first time."""
    pages = templates("theta_ml.training.oversight")
    picture = loss_picture(news.history, news.steps)
    shown = {
        "news": news,
        "subject": subject,
        "facts": facts(news, subject),
        "links": _links(news, subject, settings),
        "picture": LOSSES if picture else None,
    }
    sender = settings.mail_from
    return Message(
        subject=f"Theta {subject.month}: training {subject.recipe} {news.title}",
        text=pages.get_template("training.txt").render(shown),
        html=pages.get_template("training.html").render(shown),
        sender=sender,
        to=settings.mail_to,
        message_id=message_id(sender, subject.run_id, subject.model_key, news.event),
        references=thread(sender, subject.month),
        images={LOSSES: picture} if picture else {},
    )


def facts(news: News, subject: Subject) -> list[tuple[str, str]]:
    """Name and value of what is known, as a person reads it."""
    share = news.step / news.steps if news.steps else 0.0
    rows = [
        ("Steps", f"{news.step:,} of {news.steps:,} ({share:.0%})"),
        ("Expected end", _end(news)),
        ("Training loss", _loss(news, "train_loss")),
        ("Validation loss", _best(news)),
        ("Speed", _speed(news)),
        (subject.device, _load(news.load)),
        ("Clocks lowered by", ", ".join(news.load.throttled)),
        ("Paused for heat", _duration(news.paused_seconds) if news.paused_seconds else ""),
        ("Overfitting", news.overfitting.sentence if news.overfitting else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _end(news: News) -> str:
    if news.remaining_seconds is None or news.step >= news.steps:
        return ""
    end = news.at.astimezone(UTC) + timedelta(seconds=news.remaining_seconds)
    return f"{end:%Y-%m-%d %H:%M} UTC, in {_duration(news.remaining_seconds)}"


def _loss(news: News, name: str) -> str:
    newest = next((line for line in reversed(news.history) if name in line), None)
    return f"{newest[name]:.3f} at step {newest['step']:,}" if newest else ""


def _best(news: News) -> str:
    lines = [line for line in news.history if "validation_loss" in line]
    if not lines:
        return ""
    best = min(lines, key=lambda line: float(line["validation_loss"]))
    if best is lines[-1]:
        return f"{best['validation_loss']:.3f} at step {best['step']:,}, the best so far"
    return f"{lines[-1]['validation_loss']:.3f}; the best was {best['validation_loss']:.3f} at step {best['step']:,}"


def _speed(news: News) -> str:
    newest = next((line for line in reversed(news.history) if "tokens_per_second" in line), None)
    return f"{newest['tokens_per_second']:,.0f} tokens/s" if newest else ""


def _load(load: Load) -> str:
    parts = [
        None if load.temperature_c is None else f"{load.temperature_c:.0f} °C",
        None if load.utilisation is None else f"{load.utilisation:.0f} % busy",
        None if load.memory_bytes is None else f"{load.memory_bytes / 2**30:.1f} GiB in use",
        None if load.power_w is None else f"{load.power_w:.0f} W",
    ]
    return ", ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _links(news: News, subject: Subject, settings: Settings) -> list[Link]:
    live = [Link("The candidate in MLflow", news.live_url)] if news.live_url else []
    if not subject.in_retraining:
        return live
    return [*live, Link("The run in Airflow", airflow_run(settings.airflow, subject.run_id))]
