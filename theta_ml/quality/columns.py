"""The columns that two months are compared in: how far apart they are in each, and how far chance alone puts them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from theta_ml.quality.digest import LEAST_USERS_OF_A_WORD, Digest
from theta_ml.quality.distance import deal, jensen_shannon, one_hot, wasserstein
from theta_ml.quality.features import (
    KINDS,
    NUMBERS,
    TEXT,
    VOCABULARY,
    merge_rare,
    spoken,
    uses,
    vocabulary,
    weighed,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

FEWEST = 20
"""Values on either side without which a column is left out: fewer say nothing."""


@dataclass(frozen=True)
class Column:
    """Both months' values of one column, without the missing ones."""

    name: str
    method: str
    """Evidently's name of it."""
    distance: float
    """Ours; Evidently's is the same."""
    chance: "NDArray[np.float64]"
    """(shuffles,): the distances of random deals of both months' rows. The same deals in every column."""
    reference: "NDArray[np.generic]"
    current: "NDArray[np.generic]"


def compare(reference: Digest, current: Digest, *, shuffles: int, seed: int, vocabulary_size: int) -> list[Column]:
    """Every column in which both months have enough values."""
    import polars as pl

    samples = [reference.sample, current.sample]
    rows = pl.concat(samples)
    dealt = deal(len(samples[0]), len(samples[1]), shuffles, seed)
    words = spoken(samples)
    numbers = {name: rows[name].to_numpy() for name in NUMBERS}
    numbers[TEXT] = _reading(words, dealt[0], seed)
    found = [_number(name, values, dealt) for name, values in numbers.items()]
    found += [_kind(name, rows[name], dealt) for name in KINDS]
    found.append(_words(words, dealt, vocabulary_size, reference.names | current.names))
    return [column for column in found if column]


def _number(name: str, values: "NDArray[np.float64]", dealt: "NDArray[np.bool_]") -> Column | None:
    import numpy as np

    known = ~np.isnan(values)
    ours, theirs = values[known & dealt[0]], values[known & ~dealt[0]]
    if min(len(ours), len(theirs)) < FEWEST:
        return None
    distances = wasserstein(values[known], dealt[:, known])
    return Column(name, "wasserstein", float(distances[0]), distances[1:], ours, theirs)


def _kind(name: str, values: "pl.Series", dealt: "NDArray[np.bool_]") -> Column:
    merged = merge_rare(values).to_numpy().astype(object)
    distances = jensen_shannon(one_hot(merged), dealt)
    return Column(name, "jensenshannon", float(distances[0]), distances[1:], merged[dealt[0]], merged[~dealt[0]])


def _words(words: "pl.DataFrame", dealt: "NDArray[np.bool_]", size: int, names: dict[int, str]) -> Column | None:
    """The vocabulary as one column: a word for each conversation that uses it. None where no word is common."""
    import numpy as np

    ours = int(dealt[0].sum())
    chosen = vocabulary(words, ours, len(dealt[0]) - ours, size, LEAST_USERS_OF_A_WORD)
    used = uses(words, len(dealt[0]), chosen)
    if not used[:ours].any() or not used[ours:].any():
        return None
    distances = jensen_shannon(used, dealt)
    # A word that is common in both months together may be so in neither, and then has no name.
    named = np.array([names.get(code, f"#{code:08x}") for code in chosen], dtype=object)
    sides = (named[np.nonzero(side)[1]] for side in (used[:ours], used[ours:]))
    return Column(VOCABULARY, "jensenshannon", float(distances[0]), distances[1:], *sides)


def _reading(words: "pl.DataFrame", ours: "NDArray[np.bool_]", seed: int) -> "NDArray[np.float64]":
    """(rows,): whether a conversation reads more like the current month (high) or the reference (low); missing on the
    half of the rows from which that was learned.

    A classifier two-sample test (Lopez-Paz & Oquab 2017): as the direction was learned on other rows, those that are
    left may be dealt at random to see what chance makes of it (Kim et al. 2021). The classifier is Fisher's, with
    independent features, on hashed and weighed words.
    """
    import numpy as np

    table = weighed(words, len(ours))
    learned = _half(words, len(ours), seed)
    sides = table[learned & ours], table[learned & ~ours]
    values = np.full(len(ours), np.nan)
    if min(map(len, sides)) and len(words):
        spread = (sides[0].var(axis=0) + sides[1].var(axis=0)) / 2
        direction = (sides[1].mean(axis=0) - sides[0].mean(axis=0)) / (spread + spread.mean() + 1e-9)
        values[~learned] = _ranks(table[~learned] @ direction)
    return values


def _half(words: "pl.DataFrame", rows: int, seed: int) -> "NDArray[np.bool_]":
    """(rows,): a random half, in which conversations that use the same words stay together: what one month says again
    must not be judged by what was learned from it."""
    import numpy as np

    mixed = words["word"].to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    total = np.zeros(rows, np.uint64)
    np.add.at(total, words["row"].to_numpy(), mixed ^ (mixed >> np.uint64(29)))
    return (total * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(63) == 1


def _ranks(values: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """0 to 1: how far apart two worlds are beyond all doubt says nothing."""
    from scipy.stats import rankdata

    return rankdata(values) / len(values)
