"""Rows that no corpus is needed for: counting, which a small model learns in some steps."""

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.rows import Rows, Taken

VOCABULARY = 64


class MadeRows(Rows):
    """Each row counts up from a number of its own, twice; the second count starts a document of its own."""

    def __init__(self, count: int, max_length: int = 16, seed: int = 0) -> None:
        self._starts = np.random.default_rng(seed).integers(0, VOCABULARY, count)
        self.max_length = max_length

    @property
    def count(self) -> int:
        return len(self._starts)

    def take(self, chosen: NDArray[np.int64]) -> Taken:
        half = self.max_length // 2
        positions = np.tile(np.arange(half), (len(chosen), 2))
        tokens = (self._starts[chosen][:, None] + positions) % VOCABULARY
        learned = np.ones_like(tokens, bool)
        learned[:, [0, half]] = False
        learned[:, 1 : 1 + half // 2] &= (chosen % 2 == 0)[:, None]  # rows weigh differently
        return Taken(tokens.astype(np.uint16), positions, learned)
