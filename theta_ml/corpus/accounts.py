"""The books of a corpus, from its units and its drop list."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.epoch import Epoch
from theta_ml.corpus.mixture import Source
from theta_ml.corpus.report import Accounting, UnitAccount
from theta_ml.corpus.unit import REASONS, OpenUnit


def accounting(
    month: str,
    sources: Sequence[Source],
    units: Sequence[OpenUnit],
    dropped: Sequence[NDArray[np.void]],
    taken: Sequence[dict[str, int]],
    train: Epoch,
) -> Accounting:
    """For each unit, what became of all that was read of it."""
    accounts = [
        _account(*of_unit, train.by_unit[of_unit[0].name])
        for of_unit in zip(sources, units, dropped, taken, strict=True)
    ]
    return Accounting(month, accounts)


def _account(
    source: Source, unit: OpenUnit, dropped: NDArray[np.void], taken: dict[str, int], tokens: int
) -> UnitAccount:
    packed = unit.unit
    reasons = Counter(packed.dropped)
    reasons.update(REASONS[code] for code in dropped["reason"])
    return UnitAccount(
        name=source.name,
        read=packed.read,
        rejected=packed.rejected,
        dropped=dict(+reasons),
        held_out=packed.held_out - _held_out_erased(unit, dropped),
        kept=taken,
        changed=packed.changed,
        samples=packed.samples,
        weight=source.weight,
        epoch_tokens=tokens,
    )


def _held_out_erased(unit: OpenUnit, dropped: NDArray[np.void]) -> int:
    """Test conversations on the drop list: only an erasure takes one out."""
    splits = unit.conversations(["split"])["split"]
    return int((splits.gather(dropped["conversation"]) == "test").sum())
