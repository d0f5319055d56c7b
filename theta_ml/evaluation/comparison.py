"""Scores of one or two models on the same conversations, turned into the numbers of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from theta_ml.evaluation.bootstrap import (
    Interval,
    Vector,
    bits_per_byte,
    interval,
    p_better,
    p_worse,
    resampled_differences,
)
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.thresholds import SliceLimits

if TYPE_CHECKING:
    from theta_ml.model.scoring import Score

SLICES = ("source", "topic", "language", "length", "style", "month")
"""Properties of a conversation whose values are compared each on its own."""


@dataclass(frozen=True)
class Scores:
    """What one model made of the conversations, in their order."""

    nats: Vector
    """(conversations,) negative log likelihood of the assistant's text."""
    byte_counts: Vector
    """(conversations,) bytes of that text."""
    tokens: Vector
    """(conversations,) tokens of that text, by the model's own tokenizer."""
    correct: Vector
    """(conversations,) tokens that were the model's likeliest."""

    @classmethod
    def of(cls, rows: "Sequence[Score]") -> "Scores":
        table = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
        return cls(*table.T)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.nats).all())

    def bits_per_byte(self, where: Any = slice(None)) -> float | None:
        """None where a loss is not finite: a missing number, which the gate refuses."""
        number = bits_per_byte(self.nats[where], self.byte_counts[where])
        return number if math.isfinite(number) else None

    def perplexity(self) -> float | None:
        """exp(Σ nats / Σ tokens); comparable only between models of the same tokenizer."""
        mean = float(self.nats.sum() / self.tokens.sum())
        return math.exp(mean) if mean < 700 else None  # where a float ends; also false for NaN

    def token_accuracy(self) -> float | None:
        """Σ correct / Σ tokens; None where a loss is not finite, for then nothing is likeliest."""
        return float(self.correct.sum() / self.tokens.sum()) if self.finite else None


@dataclass(frozen=True)
class Slice:
    """The test conversations that share one value of one property."""

    name: str
    value: str
    conversations: int
    candidate_bpb: float | None
    champion_bpb: float | None
    difference: float | None
    p_value: float | None
    """Chance that a candidate not worse by more than `tolerance` looks this bad; None where the slice is not judged."""
    tolerance: float


@dataclass(frozen=True)
class Comparison:
    """Candidate against champion on one set of conversations, paired."""

    candidate: Scores
    champion: Scores | None
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        if self.champion is not None and not np.array_equal(self.candidate.byte_counts, self.champion.byte_counts):
            raise ValueError("the models were scored on different text: their bytes differ, so no difference is fair")

    @property
    def comparable(self) -> bool:
        return self.champion is not None and self.candidate.finite and self.champion.finite

    def interval(self) -> Interval | None:
        return interval(self._whole) if self.comparable else None

    def p_value(self) -> float | None:
        """Chance that a candidate no better than the champion looks this good."""
        return p_better(self._whole, 0.0) if self.comparable else None

    @cached_property
    def _whole(self) -> Vector:
        return self._differences(np.arange(len(self.candidate.nats)))

    def slices(self, conversations: Sequence[HeldOut], limits: SliceLimits) -> list[Slice]:
        """Every value of every property; largest first within a property."""
        found = []
        for name in SLICES:
            values = np.array([conversation.slice(name) for conversation in conversations])
            counts = zip(*np.unique(values, return_counts=True), strict=True)
            for value, _ in sorted(counts, key=lambda pair: (-pair[1], pair[0])):
                found.append(self._slice(name, str(value), np.flatnonzero(values == value), limits))
        return found

    def _slice(self, name: str, value: str, where: np.ndarray, limits: SliceLimits) -> Slice:
        ours = self.candidate.bits_per_byte(where)
        theirs = self.champion.bits_per_byte(where) if self.champion else None
        difference = None if ours is None or theirs is None else ours - theirs
        judged = self.comparable and len(where) >= limits.conversations
        p_value = p_worse(self._differences(where), limits.tolerance) if judged else None
        return Slice(name, value, len(where), ours, theirs, difference, p_value, limits.tolerance)

    def _differences(self, where: np.ndarray) -> Vector:
        assert self.champion is not None
        return resampled_differences(
            self.candidate.nats[where],
            self.champion.nats[where],
            self.candidate.byte_counts[where],
            self.resamples,
            self.seed,
        )
