"""Words, 2-grams and fingerprints."""

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from theta_ml.bench.duplicates import batch_of
from theta_ml.corpus import shingles
from theta_ml.corpus.minhash import PERMUTATIONS, marks
from theta_ml.corpus.shingles import fingerprints, words, words_of

TEXT = st.text(st.sampled_from("abcXYZ019 .,!?'\n-_éßЖ語文🙂\u00a0\u200b"), max_size=40)


def _plain_words(text: str) -> list[str]:
    """Slow and plain: runs of letters, digits and marks, ideographs one by one."""
    return re.findall(r"[語文]|[^\W_語文]+", text.lower())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(TEXT, max_size=4), min_size=1, max_size=6))
def test_words_are_equal_exactly_where_they_are_the_same(documents: list[list[str]]) -> None:
    found = words(batch_of(documents))
    expected = [[word for content in document for word in _plain_words(content)] for document in documents]
    assert np.diff(found.starts).tolist() == [len(each) for each in expected]
    assert np.diff(found.messages).tolist() == [len(_plain_words(text)) for each in documents for text in each]
    flat = [word for each in expected for word in each]
    hashed = dict(zip(flat, found.hashes.tolist(), strict=True))
    assert [hashed[word] for word in flat] == found.hashes.tolist()
    assert len(set(hashed.values())) == len(hashed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab"), max_size=7), min_size=1, max_size=8), st.integers(1, 5))
def test_grams_are_runs_of_words(texts: list[list[str]], size: int) -> None:
    found, starts = words_of(pl.Series([" ".join(text) for text in texts], dtype=pl.String)).grams(size)
    runs = [
        [tuple(text[at : at + size]) for at in range(max(len(text) - size + 1, min(len(text), 1)))] for text in texts
    ]
    assert np.diff(starts).tolist() == [len(each) for each in runs]
    flat = [run for each in runs for run in each]
    hashed = dict(zip(flat, found.tolist(), strict=True))
    assert [hashed[run] for run in flat] == found.tolist()
    assert len(set(hashed.values())) == len(hashed)


def test_a_text_longer_than_a_block_is_hashed_like_a_short_one() -> None:
    long = "again and " * (shingles._BLOCK // 5)
    found = words_of(pl.Series(["again", long, "", "x" * (shingles._BLOCK + 1), "and"]))
    assert np.diff(found.starts)[:3].tolist() == [1, shingles._BLOCK // 5 * 2, 0]
    again, *rest = found.hashes[: found.starts[2]].tolist()
    assert set(rest[::2]) == {again} and set(rest[1::2]) == {int(found.hashes[-1])}


def test_fingerprints_differ_only_with_more_than_case_and_white_space() -> None:
    same = [["Hello  there", "Hi"], ["hello there ", "HI"], ["hello\n\tthere", "hi"]]
    other = [["hello there hi"], ["hello there", "hi", "hi"], ["hello there!", "hi"], ["hellothere", "hi"]]
    found = [tuple(each) for each in fingerprints(batch_of([*same, *other])).tolist()]
    assert len(set(found[:3])) == 1
    assert len(set(found)) == 1 + len(other)


def test_signatures_estimate_the_jaccard_similarity() -> None:
    draw = np.random.default_rng(0)
    vocabulary = np.array([f"word{number}" for number in range(500)])
    base = [draw.choice(vocabulary, 60).tolist() for _ in range(300)]
    other = [[*each[: int(draw.integers(1, 60))], *draw.choice(vocabulary, 20)] for each in base]
    signed = [marks(batch_of([[" ".join(each)] for each in some])).signatures for some in (base, other)]
    estimated = (signed[0] == signed[1]).mean(axis=1)
    sets = [[set(pairwise(each)) for each in some] for some in (base, other)]
    true = np.array([len(one & two) / len(one | two) for one, two in zip(*sets, strict=True)])
    assert abs((estimated - true).mean()) < 0.01
    theory = np.sqrt(true * (1 - true) / PERMUTATIONS)
    assert np.sqrt(((estimated - true) ** 2).mean()) < 1.15 * np.sqrt((theory**2).mean())


def test_what_has_no_words_resembles_only_its_copies() -> None:
    signed = marks(batch_of([["🙂"], ["🙂"], ["!?"], [], ["word"], ["Word."]])).signatures
    equal = (signed[:, None] == signed[None]).all(axis=2)
    assert equal[0, 1] and equal[4, 5]
    assert equal.sum() == 6 + 4


def test_another_process_hashes_alike() -> None:
    """Signatures are stored; these numbers must not change without a new VERSION."""
    code = (
        "from theta_ml.bench.duplicates import batch_of; from theta_ml.corpus.minhash import marks;"
        "m = marks(batch_of([['Straße 語文 two words', 'one more'], ['x']]));"
        "print(m.signatures[:, ::32].tolist(), m.fingerprints.tolist())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == EXPECTED


EXPECTED = (
    "[[694112058, 1336512143, 108241565, 317833409], [731401400, 1504908917, 36141602, 90936971]]"
    " [[9249327136145510572, 18035585742202255705], [8909889551006909701, 7407488824464977019]]"
)
