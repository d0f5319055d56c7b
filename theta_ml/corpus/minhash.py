"""MinHash signatures (Broder 1997): where two agree, as often as not, the conversations share half of their 2-grams.

Plain arithmetic of NumPy. On the four real files it takes 0.13 s, rensa 0.25 s (of which its lists take most), and it
gives the same in all versions of all libraries, which signatures that are stored for months need.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus import shingles
from theta_ml.corpus.batch import Batch
from theta_ml.corpus.shingles import Words, mix

PERMUTATIONS = 128
"""Numbers in a signature; an estimated similarity is off by at most 0.044 (standard deviation, at 0.5)."""
GRAM = 2
"""Words in a shingle. Edits of a tenth of the words leave a median Jaccard of 0.71 on 2-grams, of 0.43 on 5-grams."""
VERSION = (1, shingles.VERSION, PERMUTATIONS, GRAM)
"""Signatures of another version cannot be compared."""
_FACTORS = mix(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64)) | np.uint64(1)
_BLOCK = 1 << 16
"""2-grams that are hashed at a time, so that they stay in the processor's cache."""


class Marks(NamedTuple):
    """What conversations are recognised by."""

    fingerprints: NDArray[np.uint64]
    """(conversations, 2): equal for conversations that differ only in case and white space."""
    signatures: NDArray[np.uint32]
    """(conversations, PERMUTATIONS): the share of equal numbers estimates how much of their 2-grams two share."""


def marks(batch: Batch, words: Words | None = None) -> Marks:
    """Fingerprints and signatures of a batch; `words` where they are known already."""
    fingerprints = shingles.fingerprints(batch)
    grams, starts = (words or shingles.words(batch)).grams(GRAM)
    return Marks(fingerprints, sign(*_never_empty(grams, starts, fingerprints[:, 0])))


def sign(grams: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Signatures of sets of hashes: set i is grams[starts[i]:starts[i + 1]], and holds at least one.

    Multiplying hashes that are mixed already by odd numbers stands for permuting them.
    """
    signed = np.empty((len(starts) - 1, PERMUTATIONS), np.uint32)
    begin = 0
    while begin < len(signed):
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + _BLOCK, side="right")) - 1)
        hashes, sets = grams[starts[begin] : starts[end]], starts[begin:end] - starts[begin]
        permuted = np.empty_like(hashes)
        for number, factor in enumerate(_FACTORS):
            np.multiply(hashes, factor, out=permuted)
            signed[begin:end, number] = np.minimum.reduceat(permuted, sets) >> np.uint64(32)
        begin = end
    return signed


def _never_empty(
    grams: NDArray[np.uint64], starts: NDArray[np.int64], stand_ins: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sets without a word (emoji alone, say) get one element: what has no words resembles only its own copies."""
    empty = np.flatnonzero(np.diff(starts) == 0)
    if not len(empty):
        return grams, starts
    filled = np.insert(grams, starts[empty], mix(stand_ins[empty]))
    return filled, starts + np.concatenate(([0], np.cumsum(np.diff(starts) == 0)))
