"""How far apart two months are in one column, and how far chance alone would put them.

A small sample is always some distance from another of the same source. So each distance is also measured between random
halves: the months' rows thrown together and dealt out again. What chance does not reach is a difference.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SMALLEST_SPREAD = 0.001
"""Evidently's own floor of the standard deviation that it divides by."""


def deal(reference: int, current: int, shuffles: int, seed: int) -> "NDArray[np.bool_]":
    """(1 + shuffles, reference + current): which rows are the reference's; the true deal first, then random ones."""
    import numpy as np

    true = np.arange(reference + current) < reference
    return np.vstack([true, np.random.default_rng(seed).permuted(np.tile(true, (shuffles, 1)), axis=1)])


def wasserstein(values: "NDArray[np.float64]", dealt: "NDArray[np.bool_]") -> "NDArray[np.float64]":
    """First Wasserstein distance in standard deviations of the reference; (rows,), (deals, rows) → (deals,).

    The area between the two cumulative distributions (Evidently's `wasserstein`). The true deal's is computed in double
    precision, to be Evidently's; chance's in single, which is half the work.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    values, ours = values[order], dealt[:, order]
    return np.concatenate([_apart(values, ours[:1], np.float64), _apart(values, ours[1:], np.float32)])


def _apart(values: "NDArray[np.float64]", ours: "NDArray[np.bool_]", dtype: type) -> "NDArray[np.float64]":
    """values (rows,) sorted, ours (deals, rows) → (deals,)."""
    import numpy as np

    count = ours.sum(axis=1)
    share = ours / count[:, None].astype(dtype)  # (deals, rows): each of the reference's rows, 1 in all
    centred = (values - values.mean()).astype(dtype)
    variance = share @ centred**2 - (share @ centred) ** 2
    share *= (1 + count / (len(values) - count)).astype(dtype)[:, None]
    share -= (1 / (len(values) - count)).astype(dtype)[:, None]
    apart = np.cumsum(share, axis=1, out=share)  # between the cumulative distributions
    area = np.abs(apart, out=apart)[:, :-1] @ np.diff(values).astype(dtype)
    return area.astype(np.float64) / np.maximum(np.sqrt(np.maximum(variance, 0)), _SMALLEST_SPREAD)


def jensen_shannon(counts: "NDArray[np.float64]", dealt: "NDArray[np.bool_]") -> "NDArray[np.float64]":
    """Jensen-Shannon distance, natural logarithm (0 to 0.83); counts (rows, kinds), dealt (deals, rows) → (deals,).

    Evidently's `jensenshannon`: the square root of the mean divergence of both from their mean (Lin 1991).
    """
    import numpy as np

    ours = (dealt.astype("float32") @ counts.astype("float32")).astype("float64")  # counts: exact
    theirs = counts.sum(axis=0) - ours
    p, q = (side / np.maximum(side.sum(axis=1, keepdims=True), 1) for side in (ours, theirs))
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.sqrt(np.maximum(divergence, 0))


def one_hot(kinds: "NDArray[np.object_]") -> "NDArray[np.float64]":
    """(rows,) → (rows, kinds)"""
    import numpy as np

    _, codes = np.unique(kinds.astype(str), return_inverse=True)
    return np.eye(codes.max() + 1)[codes]


def _relative_entropy(p: "NDArray[np.float64]", middle: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(axis=1)
