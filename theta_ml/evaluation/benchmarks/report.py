"""What the stage `benchmark` says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark; a share is between 0 and 1, and None where it could not be had."""

    name: str
    metric: str
    """acc (likeliest choice), exact_match (of the answer in a reply), pass@1 (tests that a program passes)."""
    value: float | None
    """Share of the items that the candidate has right; None where its likelihoods are no numbers."""
    stderr: float | None
    """Standard error of the share, over the items."""
    items: int
    shots: int
    """Examples asked for before each item."""
    shots_shown: float
    """Examples that fitted the candidate's context, on average."""
    cut: int
    """Items that the candidate did not read from their beginning."""
    chance: float
    """What guessing gets."""
    champion_value: float | None
    champion_stderr: float | None
    difference: float | None
    """candidate − champion: above zero is better."""
    difference_stderr: float | None
    """Of the difference on the same items (paired), smaller than that of two shares apart."""


@dataclass(frozen=True)
class BenchmarkReport:
    month: str
    champion_version: int | None
    results: list[BenchmarkResult]
    skipped: dict[str, str]
    """Benchmarks that were not run, and why."""


def share(scores: Sequence[float]) -> float | None:
    """Mean of the scores; None where one is no number."""
    return None if not scores or any(map(math.isnan, scores)) else fmean(scores)


def standard_error(scores: Sequence[float]) -> float | None:
    """Of the mean, from the sample's variance; None for fewer than two scores, or where one is no number."""
    if len(scores) < 2 or any(map(math.isnan, scores)):
        return None
    return stdev(scores) / math.sqrt(len(scores))


def metrics(report: BenchmarkReport) -> dict[str, float]:
    """Numbers for MLflow, for example `benchmark_mmlu`, `benchmark_mmlu_stderr`, `benchmark_mmlu_champion`."""
    named: dict[str, float | None] = {}
    for result in report.results:
        of_one = {
            "": result.value,
            "_stderr": result.stderr,
            "_champion": result.champion_value,
            "_difference": result.difference,
        }
        named |= {f"benchmark_{result.name}{what}": number for what, number in of_one.items()}
    return {name: number for name, number in named.items() if number is not None}
