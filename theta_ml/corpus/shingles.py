"""Conversations as sets of hashed word 2-grams, and as exact fingerprints: what copies are recognised by.

Hashes are plain arithmetic on UTF-8 bytes (modulo 2^64), the same in every process and on every platform: signatures
made of them are stored for months and compared with new ones, and libraries' own hashes change with their versions.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.batch import Batch

VERSION = 1
"""Raised when the same text would give other hashes."""
_U64 = np.uint64
_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64: a word's hash does not depend on where in the batch it stands."""
_SALT = 0xD6E8FEB86659FD93
_BLOCK = 1 << 18
"""Bytes that are hashed at a time: some ten numbers of 8 bytes are held for each."""
_OTHER_THAN_WORDS = r"[^\p{L}\p{N}\p{M}]+"
_WITHOUT_SPACES = r"([\p{Han}\p{Hiragana}\p{Katakana}])"
"""Scripts that write no space between words: each sign is a word."""


@dataclass(frozen=True)
class Words:
    """The words of a batch's conversations, hashed, in their order."""

    hashes: NDArray[np.uint64]
    """(words,): equal for equal words; the case and the punctuation around them count for nothing."""
    starts: NDArray[np.int64]
    """(conversations + 1,): conversation i is hashes[starts[i]:starts[i + 1]]."""
    messages: NDArray[np.int64]
    """(messages + 1,): likewise for each message."""

    def grams(self, size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of `size` words in a row, and their starts; what has fewer words has one, of all its words.

        What has no word at all has no gram.
        """
        lengths = np.diff(self.starts)
        counts = np.where(lengths >= size, lengths - size + 1, np.minimum(lengths, 1))
        starts = _offsets(counts)
        # Position of each gram's first word: the grams of a conversation stand one after the other.
        first = np.arange(starts[-1]) + np.repeat(self.starts[:-1] - starts[:-1], counts)
        runs = _runs(self.hashes, size)
        grams = runs[np.minimum(first, len(runs) - 1)] if len(runs) else np.zeros(len(first), np.uint64)
        short = np.flatnonzero((lengths > 0) & (lengths < size))
        grams[starts[short]] = self.whole(self.starts[short], lengths[short])
        return grams, starts

    def whole(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hashes of stretches of one word or more, (stretches,), each of `lengths` words from `starts` on."""
        if not len(starts):
            return np.zeros(0, np.uint64)
        begins = _offsets(lengths)
        place = np.arange(begins[-1]) - np.repeat(begins[:-1], lengths)
        salted = self.hashes[place + np.repeat(starts, lengths)] ^ ((place + 1).astype(np.uint64) * _U64(_SALT))
        return mix(np.add.reduceat(mix(salted), begins[:-1]))


def words(batch: Batch) -> Words:
    """The words of each conversation: of all its messages, whoever said them."""
    messages = batch.messages
    hashes, per_message = _hash_words(word_text(messages["content"]))
    counts = np.bincount(messages["conversation"].to_numpy(), per_message, len(batch.conversations))
    return Words(hashes, _offsets(counts.astype(np.int64)), _offsets(per_message))


def words_of(texts: pl.Series) -> Words:
    """The words of texts, each a conversation of its own."""
    hashes, counts = _hash_words(word_text(texts))
    return Words(hashes, starts := _offsets(counts), starts)


def fingerprints(batch: Batch) -> NDArray[np.uint64]:
    """(conversations, 2): 128 bits, equal for conversations that differ only in case and white space."""
    whole = (
        batch.messages.select("conversation", text=pl.format(" \x01{}\x02 {}", "role", "content"))
        .group_by("conversation", maintain_order=True)
        .agg(pl.col("text").str.join(""))
    )
    # White space and letters are Python's own here, as ever: one call for each conversation, 100 MB/s.
    digests = b"".join(_digest(text) for text in whole["text"])
    found = np.zeros((len(batch.conversations), 2), np.uint64)
    found[whole["conversation"].to_numpy()] = np.frombuffer(digests, "<u8").reshape(-1, 2)
    return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()


def word_text(texts: pl.Series) -> pl.Series:
    """Lower case; where there is more than ASCII, what stands between words made spaces."""
    beyond = texts.str.len_bytes() != texts.str.len_chars()
    lower = texts.str.to_lowercase()
    if beyond.any():
        places = beyond.arg_true()
        mended = lower.gather(places).str.replace_all(_OTHER_THAN_WORDS, " ").str.replace_all(_WITHOUT_SPACES, " $1 ")
        lower = lower.scatter(places, mended)
    return lower


def _hash_words(texts: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the words of all texts, and how many each text has."""
    sizes = texts.str.len_bytes().to_numpy().astype(np.int64) + 1
    if len(sizes) and sizes.max() > _BLOCK:
        parts = [list(_parts(text)) for text in texts]
        hashes, counts = _hash_words(pl.Series([part for each in parts for part in each], dtype=pl.String))
        return hashes, np.add.reduceat(counts, _offsets(np.array([len(each) for each in parts]))[:-1])
    ends = np.cumsum(sizes)
    found_all, counts_all, begin = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    while begin < len(texts):
        passed = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, passed + _BLOCK, side="right")))
        found, starts = _hash_block(texts[begin:end])
        edges = np.concatenate(([0], ends[begin:end] - passed))
        found_all.append(found)
        counts_all.append(np.diff(np.searchsorted(starts, edges)))
        begin = end
    return np.concatenate(found_all), np.concatenate(counts_all)


def _parts(text: str) -> Iterator[str]:
    """Parts shorter than a block, cut after a space where there is one: one message of 10 MB must not need 500 MB."""
    begin, most = 0, _BLOCK // 4 - 1  # a character has up to four bytes
    while begin + most < len(text):
        cut = text.rfind(" ", begin, begin + most) + 1 or begin + most
        yield text[begin:cut]
        begin = cut
    yield text[begin:]


def _hash_block(texts: pl.Series) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the words, and the places of their first bytes in the texts joined by single bytes.

    A word's hash is a polynomial of its bytes (Karp and Rabin), taken as a difference of sums over all bytes before.
    """
    joined = np.frombuffer(("\n".join(texts) + "\n").encode(), np.uint8)
    inside = _WORD_BYTES[joined]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate(([0], edges))
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(len(joined))
    sums = np.zeros(len(joined) + 1, np.uint64)
    np.cumsum(_BYTE_VALUES[joined] * powers, out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverses[starts] + (ends - starts).astype(np.uint64)), starts


def _runs(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """One hash for each `size` words in a row, in which order counts; runs of 2 are made into runs of 4, and so on."""
    runs, span = hashes, 1
    while span < size and len(runs):
        step = min(span, size - span)
        runs = mix(runs[:-step] * _U64(_BASE) + runs[step:])
        span += step
    return runs


def mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit of the input sways each of the output (the finaliser of SplitMix64, Steele and others 2014)."""
    mixed = (numbers ^ (numbers >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> _U64(27))) * _U64(0x94D049BB133111EB)
    mixed ^= mixed >> _U64(31)
    return mixed


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The base to the power of 0, 1, ... count - 1, and to the negative powers."""
    global _KNOWN_POWERS
    if len(_KNOWN_POWERS[0]) < count:
        _KNOWN_POWERS = _compute(_BASE, count), _compute(pow(_BASE, -1, 1 << 64), count)
    return _KNOWN_POWERS[0][:count], _KNOWN_POWERS[1][:count]


def _compute(base: int, count: int) -> NDArray[np.uint64]:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _word_bytes() -> NDArray[np.bool_]:
    """Which bytes belong to words: digits, lower-case letters, and all beyond ASCII."""
    found = np.zeros(256, np.bool_)
    found[list(b"0123456789abcdefghijklmnopqrstuvwxyz")] = True
    found[128:] = True
    return found


_KNOWN_POWERS = np.ones(1, np.uint64), np.ones(1, np.uint64)
_WORD_BYTES = _word_bytes()
_BYTE_VALUES = mix(np.arange(256, dtype=np.uint64) + _U64(_SALT))
