"""`theta bench decisions`: how often the gate is right, on real conversations and models that were really trained.

Three groups of models: a recipe under many seeds; the same with some more steps, which is better by about 1 %; and one
with many more steps that never saw one of the four sources, better on the whole and worse on that slice. Each decision
draws as many test conversations that no model learned from as an evaluation does, and goes through the real
`evaluation.scored` and `gate`. What is no score (validation, replies, guardrails) is good, and the same on both sides:
the scores alone decide. The peer is what published pipelines do: promote whoever has fewer bits per byte.

No model is worse on a small slice by little: that loss is made, by scaling a real candidate's nats there. And the
shipped `min_effect` was chosen with all seeds in sight: how such a choice fares is measured by making it anew on half
of them and judging the others.

The first run trains the models (`decisions_models`), half an hour on two idle cores; their scores are kept, and with
them it takes a few minutes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theta_ml.bench import row
from theta_ml.bench.decisions_arena import CONVERSATIONS, Arena, Decision, Known, Model, Pair, pairs, read
from theta_ml.bench.decisions_models import Group, trained
from theta_ml.bench.decisions_work import pool
from theta_ml.evaluation.bootstrap import Vector
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.thresholds import Thresholds

SAME = Group("same recipe", "all", 700, range(1, 13))
BETTER = Group("more steps", "all", 750, range(1, 13))
LOPSIDED = Group("more steps, never saw taskmaster4", "without_taskmaster4", 950, range(1, 7))
CHOSEN_ON = 6
"""Of the seeds: on the first so many an effect is chosen, on the others it is judged."""
SMALL = (30, 100)
"""Conversations of a draw that a small slice has."""
TOLERANCES = (2, 3)
"""By which a small slice is made worse."""
NEAR = 0.001
"""Pairs whose true difference is so near to 1 % of the champion's bits per byte count as better by 1 %."""
NO_BETTER, ONE_PERCENT, SLICE = 0.025, 0.90, 0.95
"""Targets: promoted at most, promoted at least, rejected at least."""
_PEER = "lower bits per byte"


def bench_decisions() -> list[dict[str, Any]]:
    """Rows: shares of decisions, against the peer's."""
    files = trained([SAME, BETTER, LOPSIDED])
    conversations = [Known(**vars(each)) for each in pool()]
    same, better, lopsided = (
        [Model(read(path, conversations)) for path in files[group.name]] for group in (SAME, BETTER, LOPSIDED)
    )
    arena = Arena(conversations, Thresholds())
    truly = [pair for pair in pairs(same, better, draws=6) if abs(pair.true_difference + 0.01) <= NEAR]
    on_the_whole = [pair for pair in pairs(same, lopsided, draws=1) if pair.true_difference < 0]
    return [
        *_no_better_rows(arena.decide("no better", [*pairs(same, same, draws=2)]), same),
        *_unseen_rows(arena, same[:CHOSEN_ON], same[CHOSEN_ON:]),
        *_better_rows(arena.decide("better by 1 %", truly), truly),
        *_slice_rows(arena.decide("worse on a slice", on_the_whole), on_the_whole),
        *(line for times in TOLERANCES for line in _small_rows(arena, same, better, times)),
    ]


def smallest_effect(margins: Vector, share: float) -> float:
    """The smallest effect, in hundredths of a percent, that at most this share of the margins is above."""
    allowed = math.floor(share * len(margins))
    return max(0.0, math.ceil(1e4 * float(np.sort(margins)[::-1][allowed])) / 1e4)


def small_slices(conversations: Sequence[HeldOut]) -> dict[str, NDArray[np.intp]]:
    """Places of the conversations of each source and topic that a draw holds SMALL many of, by its name."""
    found = {}
    for name in ("source", "topic"):
        values = np.array([each.slice(name) for each in conversations])
        for value in np.unique(values):
            where = np.flatnonzero(values == value)
            if SMALL[0] <= len(where) * CONVERSATIONS / len(values) <= SMALL[1]:
                found[f"{name} {value}"] = where
    return found


def _unseen_rows(arena: Arena, seen: Sequence[Model], unseen: Sequence[Model]) -> Iterator[dict[str, Any]]:
    """An effect chosen on some seeds, and the shipped one, on seeds that had no part in the choice."""
    chosen = smallest_effect(arena.margins([*pairs(seen, seen, draws=12)]), NO_BETTER)
    margins = arena.margins([*pairs(unseen, unseen, draws=12)])
    first, last = f"{SAME.seeds[0]} to {SAME.seeds[CHOSEN_ON - 1]}", f"{SAME.seeds[CHOSEN_ON]} to {SAME.seeds[-1]}"
    yield row(f"effect that lets 2.5 % of seeds {first} pass", 100 * chosen, "% of the champion's")
    for name, effect in (("that", chosen), ("the shipped", arena.thresholds.min_effect)):
        promoted = float((margins > effect).mean())
        yield row(f"seeds {last} promoted by {name} effect, {len(margins)} intervals", 100 * promoted, "%",
                  target=100 * NO_BETTER, ok=promoted <= NO_BETTER)  # fmt: skip


def _small_rows(
    arena: Arena, champions: Sequence[Model], candidates: Sequence[Model], times: int
) -> Iterator[dict[str, Any]]:
    """A loss that is made: no target, for it was not trained."""
    slices, by = small_slices(arena.conversations), times * arena.thresholds.slice_tolerance
    wanted = [
        Pair(champion, candidate.worse(where, champion, by), number * len(champions) + seed)
        for number, where in enumerate(slices.values())
        for seed, (champion, candidate) in enumerate(zip(champions, candidates, strict=True))
    ]
    decisions = arena.decide(f"worse by {times} tolerances on a small slice", wanted)
    refused = sum("slices" in decision.failed for decision in decisions) / len(decisions)
    name = f"{len(slices)} slices of {SMALL[0]} to {SMALL[1]}, nats scaled to lose {times} tolerances: refused for it"
    yield row(f"{name}, {len(decisions)} decisions", 100 * refused, "%", peer=_PEER,
              peer_value=100 * (1 - _shares(decisions)[1]))  # fmt: skip


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
