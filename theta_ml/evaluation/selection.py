"""Which of a run's candidates goes on to the gate, and how they compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """One training of the run."""

    recipe: str
    uri: str
    key: str
    parameters: int
    bits_per_byte: float | None
    """Of assistant text; None where it was the only candidate, or its losses are not finite."""


@dataclass(frozen=True)
class Selection:
    """As an input of another stage it brings the winner along, and what that was made from (`Inputs.open`)."""

    month: str
    conversations: int
    """Validation conversations that were scored; none where there was one candidate."""
    candidates: list[Candidate]
    recipe: str
    """The winner's."""
    train: str
    """URI of the winner."""
    sentence: str
