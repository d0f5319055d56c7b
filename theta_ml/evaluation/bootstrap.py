"""Paired bootstrap over conversations, of the difference in bits per byte between two models."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_CELLS = 250_000  # of one chunk of resamples: 2 MB, which stay in a core's cache (4 times as fast as 32 MB)


@dataclass(frozen=True)
class Interval:
    """95 % percentile interval of `candidate − champion`, in bits per byte."""

    low: float
    high: float


def bits_per_byte(nats: Vector, byte_counts: Vector) -> float:
    """Σ nats / (ln 2 · Σ bytes): a ratio of sums, so that a long conversation weighs what it is long."""
    return float(nats.sum() / (np.log(2) * byte_counts.sum()))


def resampled_differences(
    candidate: Vector, champion: Vector, byte_counts: Vector, resamples: int, seed: int
) -> Vector:
    """Differences in bits per byte of `resamples` resamples; all inputs: (conversations,), nats and bytes.

    Each resample draws conversations with replacement and takes both models' nats of the same ones (Efron and
    Tibshirani 1993, chapter 8; Koehn 2004 for the paired form).
    """
    extra = (candidate - champion) / np.log(2)
    chunks = [
        extra[drawn].sum(axis=1) / byte_counts[drawn].sum(axis=1)
        for drawn in _draws(len(byte_counts), resamples, np.random.default_rng(seed))
    ]
    return np.concatenate(chunks)


def interval(differences: Vector) -> Interval:
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(float(low), float(high))


def p_worse(differences: Vector, tolerance: float) -> float:
    """How easily chance explains a candidate worse by more than `tolerance`, one-sided; never 0 (Davison and Hinkley
    1997, section 4.2)."""
    return float((1 + (differences <= tolerance).sum()) / (1 + len(differences)))


def p_better(differences: Vector, effect: float) -> float:
    """How easily chance explains a candidate better by more than `effect`; as `p_worse`."""
    return p_worse(-differences, effect)


def _draws(conversations: int, resamples: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    rows = max(1, _CELLS // conversations)
    for start in range(0, resamples, rows):
        yield random.integers(conversations, size=(min(rows, resamples - start), conversations))
