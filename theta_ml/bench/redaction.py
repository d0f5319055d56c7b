"""How much of what people marked redaction finds, and how fast: rows of `theta bench corpus`.

Recall and precision over presidio-research's synthetic set, by `theta_ml.privacy.measure`'s definition; speed over that
set and over files of conversations, on one core.
"""

from pathlib import Path
from statistics import median
from typing import Any

from theta_ml.bench import row
from theta_ml.bench.landing import FILES, FOLDER
from theta_ml.bench.secrets import HARMLESS, SECRETS
from theta_ml.privacy.measure import Score, measure, megabytes_per_second
from theta_ml.privacy.redaction import Redactor

GOLD = FOLDER.parent / "pii" / "presidio_synth_v2.jsonl.gz"
REPEATS = 3
TARGETS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("EMAIL", "CARD", "IBAN", "IP", "URL", "SSN", "SECRET"), (0.97, 0.97)),
    "PHONE": (0.95, 0.85),
}
"""Least recall and precision; names, addresses and other ids are reported."""


def redaction_rows(model: str | None = None) -> list[dict[str, Any]]:
    """Rows: recall and precision of each type, secrets on a set of our own, then MB/s of each file.

    With `model` (a folder or a hub id of a token-classification model), names and addresses once more with it. Files
    that are not at hand are left out.
    """
    rows = _secret_rows()
    if GOLD.exists():
        rows += [each for kind, score in measure(GOLD).items() for each in _score_rows(kind, score)]
        rows += _recogniser_rows(model) if model else []
    files = (GOLD, *(FOLDER / f"{name}.jsonl.gz" for name in FILES))
    return rows + [_speed_row(file) for file in files if file.exists()]


def _secret_rows() -> list[dict[str, Any]]:
    """A secret is found if its telling part is gone; a find is right if it is not in a harmless text."""
    gone = sum(secret not in Redactor().redact(text) for text, secret in SECRETS.items())
    wrong = sum(Redactor().redact(text) != text for text in HARMLESS)
    return _score_rows("SECRET", Score(len(SECRETS), gone, gone + wrong, gone))


def _recogniser_rows(model: str) -> list[dict[str, Any]]:
    from theta_ml.privacy.recogniser import TokenClassifier

    recogniser = TokenClassifier(model)
    scores = measure(GOLD, lambda text: Redactor().find(text, None, recogniser.find([text])[0]))
    return [
        each for kind in ("NAME", "ADDRESS") for each in _score_rows(f"{kind} with {Path(model).name}", scores[kind])
    ]


def _score_rows(kind: str, score: Score) -> list[dict[str, Any]]:
    least = TARGETS.get(kind, (None, None))
    return [
        _score_row(f"redaction: {kind} {what}", value, target)
        for what, value, target in zip(("recall", "precision"), (score.recall, score.precision), least, strict=True)
    ]


def _score_row(name: str, value: float, target: float | None) -> dict[str, Any]:
    return row(name, value, "share", target=target, ok=target is None or value >= target)


def _speed_row(file: Path) -> dict[str, Any]:
    speed = median(megabytes_per_second(file) for _ in range(REPEATS))
    return row(f"redaction: {file.name.partition('.')[0]}", speed, "MB/s")
