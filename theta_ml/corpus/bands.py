"""Bands of MinHash signatures in files, so that millions of conversations are compared in the memory of thousands.

Locality-sensitive hashing: items that agree in all numbers of some band share that band's bucket, and only those in a
bucket are compared. Two that share the Jaccard similarity j of their shingles meet in some bucket with probability
1 - (1 - j^4)^32: 0.87 at 0.5, 0.9999 at 0.7 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.arrays import release
from theta_ml.corpus.minhash import PERMUTATIONS
from theta_ml.corpus.shingles import mix

BANDS = 32
_ROWS = PERMUTATIONS // BANDS
_CHUNK = 1 << 14
"""Rows of signatures that are read at a time: 8 MiB."""
_PART = 1 << 17
"""About so many keys are sorted at a time."""
_COMPARED = 1 << 13
"""Pairs that are compared at a time."""
_KEYS, _SKETCHES = "bands.keys", "bands.sketches"


class Bands:
    """For each band, and for each half of the fingerprints, one key for each item; and a byte for each number of the
    signatures, by which candidates are compared."""

    FIRST_HALF, SECOND_HALF = BANDS, BANDS + 1
    """Columns of the fingerprints' halves; those before hold the bands."""

    def __init__(
        self, folder: Path, signatures: Sequence[NDArray[np.uint32]], fingerprints: Sequence[NDArray[np.uint64]]
    ) -> None:
        """Writes to `folder`, about 400 bytes an item; items are numbered in the order of the arrays."""
        self.items = sum(map(len, signatures))
        self._keys, self._bytes = folder / _KEYS, folder / _SKETCHES
        self._write(signatures, fingerprints)
        self._parts = 1 << max(0, (self.items - 1) // _PART).bit_length()

    def buckets(self, column: int, among: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
        """Keys, ascending, and those items `among` (items,) that share theirs with another, of one key in no order; a
        part at a time."""
        for part in range(self._parts):
            keys, items = self._part(column, part, among)
            order = np.argsort(keys)  # a stable sort takes six times as long
            keys, items = keys[order], items[order]
            equal = keys[1:] == keys[:-1]
            shared = np.zeros(len(keys), np.bool_)
            shared[1:] |= equal
            shared[:-1] |= equal
            if shared.any():
                yield keys[shared], items[shared]

    def similarity(self, some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """(pairs,): the share of equal bytes; two numbers that differ have the same byte once in 256 times.

        Fastest where equal ones among `others` stand side by side.
        """
        found = np.empty(len(some), np.float32)
        with self._bytes.open("rb") as file:
            for begin in range(0, len(some), _COMPARED):
                pairs = slice(begin, begin + _COMPARED)
                equal = _sketches(file.fileno(), some[pairs]) == _sketches(file.fileno(), others[pairs])
                found[pairs] = equal.sum(axis=1, dtype=np.uint8) / np.float32(PERMUTATIONS)
        return found

    def halves(self, items: NDArray[np.int64]) -> NDArray[np.uint64]:
        """(items,): second halves of fingerprints."""
        with self._keys.open("rb") as file:
            begin = self.SECOND_HALF * self.items
            read = [os.pread(file.fileno(), 8, (begin + item) * 8) for item in items.tolist()]
        return np.frombuffer(b"".join(read), np.uint64)

    def _write(self, signatures: Sequence[NDArray[np.uint32]], fingerprints: Sequence[NDArray[np.uint64]]) -> None:
        first = 0
        with self._keys.open("wb") as keys, self._bytes.open("wb") as sketches:
            for signed, marked in zip(signatures, fingerprints, strict=True):
                assert len(signed) == len(marked), f"{len(signed)} signatures, {len(marked)} fingerprints"
                for begin in range(0, len(signed), _CHUNK):
                    rows = slice(begin, begin + _CHUNK)
                    columns = np.vstack([_band_keys(signed[rows]), marked[rows].T])
                    for number, column in enumerate(columns):
                        keys.seek((number * self.items + first + begin) * 8)
                        column.tofile(keys)
                    _bytes_of(signed[rows]).tofile(sketches)
                    release(signed)
                    release(marked)
                first += len(signed)

    def _part(self, column: int, part: int, among: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Keys with the part's leading bits, and their items."""
        bits = self._parts.bit_length() - 1
        keys, items = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for begin in range(0, self.items, _PART):
            count = min(_PART, self.items - begin)
            chunk = np.fromfile(self._keys, np.uint64, count, offset=(column * self.items + begin) * 8)
            wanted = among[begin : begin + count]
            if bits:
                wanted = wanted & (chunk >> np.uint64(64 - bits) == part)
            there = np.flatnonzero(wanted)
            keys.append(chunk[there])
            items.append(there + begin)
        return np.concatenate(keys), np.concatenate(items)


def _band_keys(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """(bands, rows)."""
    numbers = np.ascontiguousarray(signatures.T).reshape(BANDS, _ROWS, -1).astype(np.uint64)
    keys = numbers[:, 0]
    for row in range(1, _ROWS):
        keys = mix(keys) + numbers[:, row]
    return mix(keys)


def _sketches(file: int, items: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(items, PERMUTATIONS). Read one by one: a page that is mapped brings its neighbours into resident memory."""
    new = np.diff(items, prepend=-1) != 0
    rows = [os.pread(file, PERMUTATIONS, item * PERMUTATIONS) for item in items[new].tolist()]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, PERMUTATIONS)[np.cumsum(new) - 1]


def _bytes_of(signatures: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """(rows, PERMUTATIONS). Smallest numbers have their high bits in common, so these are not taken as they are."""
    return ((signatures * np.uint32(0x9E3779B1)) >> np.uint32(24)).astype(np.uint8)
