"""The columns that two months are compared in, each with the method and the threshold that decide."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from theta_ml.quality.distance import deal, jensen_shannon, one_hot, wasserstein
from theta_ml.quality.features import KINDS, NUMBERS, VOCABULARY, Sample, merge_rare, vocabulary, word_counts
from theta_ml.quality.thresholds import DriftSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEAST_USERS_OF_A_WORD = 5
"""Conversations: a word that fewer use is noise, and may be somebody's name."""


@dataclass(frozen=True)
class Column:
    """Both months' values of one column, without the missing ones."""

    name: str
    method: str
    """Evidently's name of it."""
    threshold: float
    distance: float
    """Ours; Evidently's is the same."""
    reference: "NDArray[np.generic]"
    current: "NDArray[np.generic]"


def compare(spec: DriftSpec, reference: Sample, current: Sample) -> list[Column]:
    """Every column in which both months have enough values."""
    rows = len(reference.words), len(current.words)
    dealt = deal(*rows, spec.shuffles, spec.seed)
    numbers = (_number(spec, name, reference, current, dealt) for name in NUMBERS)
    kinds = [_kind(spec, name, reference, current, dealt) for name in KINDS]
    return [*(number for number in numbers if number), *kinds, *_words(spec, reference, current, dealt)]


def _number(
    spec: DriftSpec, name: str, reference: Sample, current: Sample, dealt: "NDArray[np.bool_]"
) -> Column | None:
    import numpy as np

    values = np.concatenate([reference.columns[name], current.columns[name]]).astype("float64")
    known = ~np.isnan(values)
    ours, theirs = values[known & dealt[0]], values[known & ~dealt[0]]
    if min(len(ours), len(theirs)) < spec.min_conversations:
        return None
    # The shuffled deals keep the number of values on each side, where a few are missing.
    again = deal(len(ours), len(theirs), spec.shuffles, spec.seed)
    distances = wasserstein(values[known], again)
    threshold = _threshold(distances, spec.wasserstein, spec.chance)
    return Column(name, "wasserstein", threshold, float(distances[0]), ours, theirs)


def _kind(spec: DriftSpec, name: str, reference: Sample, current: Sample, dealt: "NDArray[np.bool_]") -> Column:
    import numpy as np

    ours, theirs = (side.to_numpy() for side in merge_rare(reference.columns[name], current.columns[name]))
    distances = jensen_shannon(one_hot(np.concatenate([ours, theirs])), dealt)
    threshold = _threshold(distances, spec.jensen_shannon, spec.chance)
    return Column(name, "jensenshannon", threshold, float(distances[0]), ours, theirs)


def _words(spec: DriftSpec, reference: Sample, current: Sample, dealt: "NDArray[np.bool_]") -> list[Column]:
    """The vocabulary as one column: a word for each conversation that uses it. Empty where no word is common."""
    import numpy as np

    words = vocabulary(reference.words, current.words, spec.vocabulary_size, _LEAST_USERS_OF_A_WORD)
    if not words:
        return []
    sides = word_counts(reference.words, words), word_counts(current.words, words)
    names = np.array(words, dtype=object)
    ours, theirs = (names[np.nonzero(side)[1]] for side in sides)
    if not len(ours) or not len(theirs):
        return []
    distances = jensen_shannon(np.vstack(sides), dealt)
    threshold = _threshold(distances, spec.vocabulary, spec.chance)
    return [Column(VOCABULARY, "jensenshannon", threshold, float(distances[0]), ours, theirs)]


def _threshold(distances: "NDArray[np.float64]", least: float, chance: float) -> float:
    import numpy as np

    return round(max(least, float(np.quantile(distances[1:], chance))), 4)
