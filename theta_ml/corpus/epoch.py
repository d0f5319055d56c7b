"""Which rows an epoch shows, and how often: mixture, replay and feedback, all as weights of rows."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.rows import PLAN
from theta_ml.corpus.shard import Shard
from theta_ml.corpus.unit import group_of


@dataclass(frozen=True)
class Part:
    """A unit's share of an epoch."""

    name: str
    weight: float
    """How often it is shown: 1 once, 2 twice, 0.5 half of its rows."""
    shard: Shard
    dropped: NDArray[np.uint32]
    """Numbers of the conversations that are not to be learned from."""


@dataclass
class Epoch:
    """The rows of a split, in the order of an epoch that shuffles them again."""

    plan: NDArray[np.void]
    """(rows,) of PLAN."""
    tokens: int = 0
    """That are learned from or stand before what is; copies and padding are not counted."""
    loss_tokens: int = 0
    by_unit: dict[str, int] = field(default_factory=dict)
    """Tokens of each unit."""


def epoch(parts: Sequence[Part], split: str, tiers: Sequence[float], seed: int) -> Epoch:
    """`tiers` are the weights of TIERS; they do not hold for validation, which measures and does not teach."""
    result = Epoch(np.zeros(0, PLAN))
    plans = []
    for number, part in enumerate(parts):
        pieces = part.shard.pieces[~np.isin(part.shard.pieces["conversation"], part.dropped)]
        times = np.zeros(len(part.shard.groups), np.int64)
        for tier, weight in enumerate(tiers):
            rows = np.intersect1d(np.flatnonzero(part.shard.groups == group_of(split, tier)), pieces["row"])
            chance = np.random.default_rng([seed, zlib.crc32(part.name.encode()), tier])
            times[rows] = _times(len(rows), part.weight * (weight if split == "train" else 1.0), chance)
        plans.append(_plan(number, times))
        shown = times[pieces["row"]]
        result.by_unit[part.name] = int((pieces["length"] * shown).sum())
        result.loss_tokens += int((pieces["learned"] * shown).sum())
    plan = np.concatenate([result.plan, *plans])
    result.plan = plan[np.random.default_rng(seed).permutation(len(plan))]
    result.tokens = sum(result.by_unit.values())
    return result


def _times(rows: int, weight: float, chance: np.random.Generator) -> NDArray[np.int64]:
    """How often each of the rows is shown: the weight's whole part, and once more for a drawn share of them."""
    whole = int(weight)
    times = np.full(rows, whole)
    times[chance.permutation(rows)[: round((weight - whole) * rows)]] += 1
    return times


def _plan(unit: int, times: NDArray[np.int64]) -> NDArray[np.void]:
    plan = np.zeros(int(times.sum()), PLAN)
    plan["unit"], plan["row"] = unit, np.repeat(np.arange(len(times)), times)
    return plan
