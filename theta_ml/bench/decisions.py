"""`theta bench decisions`: how often the gate is right, on real conversations and models that were really trained.

Three groups of models: a recipe under many seeds; the same with some more steps, which is better by about 1 %; and one
with many more steps that never saw one of the four sources, better on the whole and worse on that slice. Each decision
draws 1,000 test conversations that no model learned from and goes through the real `evaluation.scored` and `gate`. What
is no score (validation, replies, guardrails) is good, and the same on both sides: the scores alone decide. The peer is
what published pipelines do: promote whoever has fewer bits per byte.

The first run trains the models (`decisions_models`), half an hour on two idle cores; their scores are kept, and with
them it takes a few minutes.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np

from theta_ml.bench import row
from theta_ml.bench.decisions_models import Group, trained
from theta_ml.bench.decisions_work import MONTHS, pool
from theta_ml.champion import Champion
from theta_ml.evaluation.comparison import Comparison, Scores
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.evaluate import EvaluateSpec, scored
from theta_ml.evaluation.gate import Evidence, Preflight, gate
from theta_ml.evaluation.report import Guardrails
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Verdict

SAME = Group("same recipe", "all", 700, range(1, 13))
BETTER = Group("more steps", "all", 750, range(1, 13))
LOPSIDED = Group("more steps, never saw taskmaster4", "without_taskmaster4", 950, range(1, 7))
CONVERSATIONS = 1000
"""Drawn for each decision, without replacement."""
RESAMPLES = 4000
"""Of each bootstrap; less than half of what `evaluate` takes, for the benchmark's time."""
NEAR = 0.001
"""Pairs whose true difference is so near to 1 % of the champion's bits per byte count as better by 1 %."""
NO_BETTER, ONE_PERCENT, SLICE = 0.025, 0.90, 0.95
"""Targets: promoted at most, promoted at least, rejected at least."""
_PEER = "lower bits per byte"
_CHAMPION = Champion(1, MONTHS[-1], "bench", "bench")


class _Known(HeldOut):
    """A conversation whose style is found once, not once for each decision."""

    @cached_property
    def style(self) -> str:
        return super().style


@dataclass(frozen=True)
class Model:
    """What a model made of the whole pool."""

    scores: Scores

    @property
    def bits_per_byte(self) -> float:
        found = self.scores.bits_per_byte()
        assert found is not None, "a model of the benchmark has no finite loss"
        return found


@dataclass(frozen=True)
class Pair:
    """Who stands against whom, and which draw of conversations decides."""

    champion: Model
    candidate: Model
    seed: int

    @property
    def true_difference(self) -> float:
        """Over the whole pool, as a share of the champion's; below zero is better."""
        return self.candidate.bits_per_byte / self.champion.bits_per_byte - 1


@dataclass(frozen=True)
class Decision:
    """What the gate and the peer made of a pair."""

    verdict: Verdict
    peer_promotes: bool

    @property
    def promotes(self) -> bool:
        return self.verdict.decision == "promoted"

    @property
    def failed(self) -> set[str]:
        return {check.name for check in self.verdict.checks if not check.passed}


def bench_decisions() -> list[dict[str, Any]]:
    """Rows: shares of decisions, against the peer's."""
    files = trained([SAME, BETTER, LOPSIDED])
    conversations = [_Known(**vars(each)) for each in pool()]
    same, better, lopsided = (
        [Model(read(path, conversations)) for path in files[group.name]] for group in (SAME, BETTER, LOPSIDED)
    )
    arena = Arena(conversations, Thresholds())
    no_better = arena.decide("no better", [*pairs(same, same, draws=3)])
    truly = [pair for pair in pairs(same, better, draws=12) if abs(pair.true_difference + 0.01) <= NEAR]
    on_the_whole = [pair for pair in pairs(same, lopsided, draws=2) if pair.true_difference < 0]
    return [
        *_no_better_rows(no_better, same),
        *_better_rows(arena.decide("better by 1 %", truly), truly),
        *_slice_rows(arena.decide("worse on a slice", on_the_whole), on_the_whole),
    ]


def read(path: Path, conversations: Sequence[HeldOut]) -> Scores:
    """Scores of the whole pool, in its order. Raises ClickException where they are of another pool."""
    import polars as pl

    found = pl.read_parquet(path)
    if found["conversation_id"].to_list() != [each.conversation_id for each in conversations]:
        raise click.ClickException(f"{path} holds scores of other conversations: remove it, it is made anew")
    return Scores(*(found[name].to_numpy().astype(np.float64) for name in ("nats", "bytes", "tokens", "correct")))


def pairs(champions: Sequence[Model], candidates: Sequence[Model], draws: int) -> Iterator[Pair]:
    """All ordered pairs of two different models, each with some draws of its own."""
    wanted = [(ours, theirs) for theirs in champions for ours in candidates if ours is not theirs]
    for number, (candidate, champion) in enumerate(wanted):
        yield from (Pair(champion, candidate, number * draws + draw) for draw in range(draws))


@dataclass(frozen=True)
class Arena:
    """Where pairs meet: the pool of conversations."""

    conversations: Sequence[HeldOut]
    thresholds: Thresholds

    def decide(self, name: str, wanted: Sequence[Pair]) -> list[Decision]:
        if not wanted:
            raise click.ClickException(f"no pair of models is {name}: change the groups' steps in {__name__}")
        with click.progressbar(wanted, label=f"{len(wanted)} decisions, {name}", file=sys.stderr) as bar:
            return [self._decision(pair) for pair in bar]

    def _decision(self, pair: Pair) -> Decision:
        """Through the real evaluation and the real gate, on a draw of the pool."""
        spec = EvaluateSpec(
            MONTHS[-1], _CHAMPION, max_conversations=CONVERSATIONS, resamples=RESAMPLES, thresholds=self.thresholds
        )
        drawn = np.random.default_rng(pair.seed).choice(len(self.conversations), CONVERSATIONS, replace=False)
        candidate, champion = (_some(model.scores, drawn) for model in (pair.candidate, pair.champion))
        comparison = Comparison(candidate, champion, spec.resamples, pair.seed)
        report = scored(spec, [self.conversations[each] for each in drawn], comparison)
        report = replace(report, smoke_passed=True, guardrails=_EVEN)
        assert report.difference is not None
        return Decision(gate(_evidence(report, self.thresholds)), report.difference < 0)


def _some(scores: Scores, where: Any) -> Scores:
    return Scores(scores.nats[where], scores.byte_counts[where], scores.tokens[where], scores.correct[where])


_EVEN = Guardrails(
    replies=50, toxic_replies=0, champion_toxic_replies=0, leaked_replies=0, champion_leaked_replies=0,
    longest_verbatim=0, latency_ms=1.0, champion_latency_ms=1.0, size_bytes=1, champion_size_bytes=1,
)  # fmt: skip


def _evidence(report: Any, thresholds: Thresholds) -> Evidence:
    from theta_ml.landing.snapshot import Snapshot
    from theta_ml.quality.comparing import DriftReport
    from theta_ml.quality.validate import ValidationReport

    month = report.month
    return Evidence(
        month=month,
        champion_version=_CHAMPION.version,
        champion_month=_CHAMPION.month,
        snapshot=Snapshot(month, "", [month], CONVERSATIONS, CONVERSATIONS, 0, 0, {}, {}, {}, ""),
        validation=ValidationReport(month, True, "as expected", []),
        drift=DriftReport(month, MONTHS[0], "stable", "nothing moved", 0.0, [], [], {}),
        preflight=Preflight(True, "it learns"),
        evaluation=report,
        thresholds=thresholds,
    )


def _no_better_rows(decisions: Sequence[Decision], models: Sequence[Model]) -> Iterator[dict[str, Any]]:
    numbers = np.array([model.bits_per_byte for model in models])
    effect = 100 * Thresholds().min_effect
    promoted, peer = _shares(decisions)
    yield row("models of one recipe", len(models), "seeds")
    yield row("bits per byte, mean", float(numbers.mean()), "bits/byte")
    yield row("seeds' standard deviation", 100 * float(numbers.std(ddof=1) / numbers.mean()), "% of the mean")
    yield row("best against worst seed", 100 * float(1 - numbers.min() / numbers.max()), "%")
    yield row("smallest effect asked for", effect, "% of the champion's")
    yield row(f"other seed promoted, {len(decisions)} decisions", 100 * promoted, "%", peer=_PEER,
              peer_value=100 * peer, target=100 * NO_BETTER, ok=promoted <= NO_BETTER)  # fmt: skip


def _better_rows(decisions: Sequence[Decision], of: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    promoted, peer = _shares(decisions)
    true = float(np.mean([pair.true_difference for pair in of]))
    yield row(f"pairs better by 1 ± {100 * NEAR:g} %", len({(id(p.champion), id(p.candidate)) for p in of}), "pairs")
    yield row("their true difference, mean", 100 * true, "% of the champion's")
    yield row(f"better by 1 % promoted, {len(decisions)} decisions", 100 * promoted, "%", peer=_PEER,
              peer_value=100 * peer, target=100 * ONE_PERCENT, ok=promoted >= ONE_PERCENT)  # fmt: skip


def _slice_rows(decisions: Sequence[Decision], of: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    promoted, peer = _shares(decisions)
    true = float(np.mean([pair.true_difference for pair in of]))
    alone = sum(decision.failed == {"slices"} for decision in decisions) / len(decisions)
    yield row("better but for a slice: on the whole", 100 * true, "% of the champion's")
    yield row(f"better but for a slice, rejected, {len(decisions)} decisions", 100 * (1 - promoted), "%", peer=_PEER,
              peer_value=100 * (1 - peer), target=100 * SLICE, ok=1 - promoted >= SLICE)  # fmt: skip
    yield row("of all, rejected for the slice alone", 100 * alone, "%")


def _shares(decisions: Sequence[Decision]) -> tuple[float, float]:
    """Promoted by the gate, and by the peer."""
    count = len(decisions)
    return sum(each.promotes for each in decisions) / count, sum(each.peer_promotes for each in decisions) / count
