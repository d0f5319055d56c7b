"""Copies: which leave, which stay, and that neither order nor process matters."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from theta_ml.bench import duplicates as bench
from theta_ml.bench.landing import FOLDER
from theta_ml.corpus import bands
from theta_ml.corpus.arrays import open_array
from theta_ml.corpus.duplicates import EXACT, NEAR, OF_TEST, TEST, TRAIN, VALIDATION, Copies, Items, find
from theta_ml.corpus.minhash import PERMUTATIONS, Marks, marks

WORDS = [f"word{number}" for number in range(2000)]


def _families(draw: np.random.Generator, families: int, copies: int) -> tuple[list[bench.Conversation], list[int]]:
    """Documents of 30 words, each with exact and near copies of it, and copies of those; and their families."""
    documents, family = [], []
    for number in range(families):
        own = [[" ".join(draw.choice(WORDS, 30))]]
        for _ in range(copies):
            source = own[int(draw.integers(len(own)))]
            own.append(bench.edited(source, float(draw.choice([0, 0.07, 0.1])), WORDS, draw))
        documents += own
        family += [number] * len(own)
    return documents, family


def _items(marked: Marks, split: NDArray[np.uint8], rank: NDArray[np.uint32], units: list[int]) -> Items:
    edges = [0, *units, len(split)]
    parts = [slice(begin, end) for begin, end in pairwise(edges)]
    return Items([marked.signatures[p] for p in parts], [marked.fingerprints[p] for p in parts], split, rank)


def _alike(marked: Marks) -> NDArray[np.bool_]:
    """(items, items), slow and plain: half of the numbers are equal, and all of some band."""
    equal = marked.signatures[:, None] == marked.signatures[None]
    return (equal.mean(axis=2) >= 0.5) & equal.reshape(*equal.shape[:2], bands.BANDS, -1).all(axis=3).any(axis=2)


def _random(seed: int, families: int = 8, copies: int = 5) -> tuple[Marks, Items]:
    draw = np.random.default_rng(seed)
    documents, _ = _families(draw, families, copies)
    marked = marks(bench.batch_of(documents))
    count = len(documents)
    split = draw.choice(3, count, p=[0.2, 0.2, 0.6]).astype(np.uint8)
    units = sorted(draw.integers(0, count + 1, 3).tolist())
    return marked, _items(marked, split, draw.permutation(count).astype(np.uint32), units)


def _equal(one: Copies, other: Copies) -> bool:
    return (
        np.array_equal(one.item, other.item)
        and np.array_equal(one.reason, other.reason)
        and np.array_equal(one.original, other.original)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_stays_holds_no_copy_and_what_leaves_has_a_reason(seed: int) -> None:
    marked, items = _random(seed)
    found = find(items)
    stays = np.ones(len(items.split), np.bool_)
    stays[found.item] = False
    assert stays[items.split == TEST].all()
    assert stays[found.original].all()
    assert ((items.split[found.original] == TEST) == (found.reason == OF_TEST)).all()
    equal = (marked.fingerprints[:, None] == marked.fingerprints[None]).all(axis=2)
    trained = stays & (items.split != TEST)
    alike = _alike(marked) | equal
    np.fill_diagonal(alike, False)
    assert not alike[np.ix_(trained, stays)].any()
    for item, reason in zip(found.item, found.reason, strict=True):
        if reason == EXACT:
            assert (equal[item] & (items.split != TEST)).sum() > 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_units_and_their_order_change_nothing(seed: int) -> None:
    marked, items = _random(seed)
    draw = np.random.default_rng(seed + 1)
    order = draw.permutation(len(items.split))
    shuffled = Marks(marked.fingerprints[order], marked.signatures[order])
    units = sorted(draw.integers(0, len(order) + 1, 4).tolist())
    one, other = find(items), find(_items(shuffled, items.split[order], items.rank[order], units))
    place = np.argsort(order[other.item])
    again = Copies(order[other.item][place], other.reason[place], order[other.original][place])
    assert _equal(one, again)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_of_each_exact_group_one_stays(seed: int) -> None:
    draw = np.random.default_rng(seed)
    documents = [[" ".join(draw.choice(WORDS, 30))] for _ in range(10)]
    group = draw.integers(0, 10, 60)
    marked = marks(bench.batch_of([documents[number] for number in group]))
    split = draw.integers(VALIDATION, TRAIN + 1, 60).astype(np.uint8)
    rank = draw.permutation(60).astype(np.uint32)
    found = find(_items(marked, split, rank, [20, 20, 50]))
    assert (found.reason == EXACT).all()
    kept = np.setdiff1d(np.arange(60), found.item)
    assert sorted(group[kept]) == sorted(set(group))
    for number in kept:
        same = group == group[number]
        assert (split[number], rank[number]) == min(zip(split[same], rank[same], strict=True))


def _of_numbers(*equal: tuple[int, int, int], count: int) -> Marks:
    """Signatures of items that differ, but for (item, other, numbers): that one has so many of the other's numbers."""
    draw = np.random.default_rng(0)
    signatures = draw.integers(0, 2**32, (count, PERMUTATIONS), np.uint32)
    for item, other, numbers in equal:
        signatures[item, :numbers] = signatures[other, :numbers]
    return Marks(draw.integers(0, 2**63, (count, 2), np.uint64), signatures)


def _chain() -> Marks:
    """A ~ B ~ C, where A and C differ: B has A's first half and a bit, and C's second."""
    marked = _of_numbers(count=3)
    a, b, c = marked.signatures
    b[:68] = a[:68]
    c[60:] = b[60:]
    return marked


@pytest.mark.parametrize(
    ("split", "rank", "left", "reason"),
    [
        ((TRAIN, TRAIN, TRAIN), (0, 1, 2), [1], NEAR),
        ((TRAIN, TRAIN, TRAIN), (1, 0, 2), [0, 2], NEAR),
        ((TRAIN, TEST, TRAIN), (0, 2, 1), [0, 2], OF_TEST),
        ((TRAIN, VALIDATION, TRAIN), (0, 2, 1), [0, 2], NEAR),
        ((TRAIN, TRAIN, VALIDATION), (0, 1, 2), [1], NEAR),
    ],
)
def test_of_a_chain_those_leave_that_copy_what_stays(
    split: tuple[int, ...], rank: tuple[int, ...], left: list[int], reason: int
) -> None:
    found = find(_items(_chain(), np.array(split, np.uint8), np.array(rank, np.uint32), [1, 2]))
    assert found.item.tolist() == left
    assert found.reason.tolist() == [reason] * len(left)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_absent_counts_for_nothing(seed: int) -> None:
    marked, items = _random(seed)
    absent = np.random.default_rng(seed).random(len(items.split)) < 0.3
    number = np.flatnonzero(~absent)
    rest = Marks(marked.fingerprints[number], marked.signatures[number])
    alone = find(_items(rest, items.split[number], items.rank[number], []))
    found = find(replace(items, absent=absent))
    assert _equal(found, Copies(number[alone.item], alone.reason, number[alone.original]))


def test_an_exact_copy_of_a_copy_of_a_test_conversation_is_one_too() -> None:
    marked = _of_numbers((1, 0, 100), (2, 0, 100), count=3)
    marked.fingerprints[2] = marked.fingerprints[1]
    found = find(_items(marked, np.array([TEST, TRAIN, TRAIN], np.uint8), np.arange(3, dtype=np.uint32), []))
    assert found.item.tolist() == [1, 2]
    assert found.reason.tolist() == [OF_TEST, OF_TEST]
    assert found.original.tolist() == [0, 0]


def test_what_was_compared_with_a_dropped_one_alone_is_compared_again() -> None:
    """All of B's copies meet B first; B is a test conversation's copy and leaves; of its copies one must stay."""
    marked = _of_numbers(count=12)
    test, b, *copies = marked.signatures
    b[:68] = test[:68]
    for copy in copies:
        copy[36:] = b[36:]
    split = np.array([TEST] + [TRAIN] * 11, np.uint8)
    found = find(_items(marked, split, np.arange(12, dtype=np.uint32), []))
    assert found.item.tolist() == [1, *range(3, 12)]
    assert found.original.tolist() == [0] + [2] * 9


def test_files_in_several_parts_give_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, items = _random(7, families=40)
    whole = find(items)
    monkeypatch.setattr(bands, "_PART", 16)
    monkeypatch.setattr(bands, "_CHUNK", 7)
    monkeypatch.setattr(bands, "_COMPARED", 5)
    assert len(whole.item) and _equal(whole, find(items, tmp_path))
    assert not list(tmp_path.iterdir())


def test_signatures_may_lie_in_files(tmp_path: Path) -> None:
    _, items = _random(3)
    signatures = [_mapped(tmp_path / f"s{number}.npy", each) for number, each in enumerate(items.signatures)]
    fingerprints = [_mapped(tmp_path / f"f{number}.npy", each) for number, each in enumerate(items.fingerprints)]
    assert any(isinstance(each, np.memmap) for each in signatures)
    assert _equal(find(items), find(replace(items, signatures=signatures, fingerprints=fingerprints)))


def _mapped(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    np.save(path, array)
    return open_array(path)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one(count: int) -> None:
    found = find(
        _items(_of_numbers(count=count), np.full(count, TRAIN, np.uint8), np.arange(count, dtype=np.uint32), [])
    )
    assert [len(each) for each in found] == [0, 0, 0]


def test_thousands_from_one_template_take_no_quadratic_time() -> None:
    draw = np.random.default_rng(0)
    template = draw.integers(0, 2**32, PERMUTATIONS, np.uint32)
    own = draw.integers(0, 2**32, (20_000, PERMUTATIONS), np.uint32)
    signatures = np.where(draw.random(own.shape) < 0.9, template, own)
    marked = Marks(draw.integers(0, 2**63, (len(own), 2), np.uint64), signatures)
    started = perf_counter()
    found = find(_items(marked, np.full(len(own), TRAIN, np.uint8), np.arange(len(own), dtype=np.uint32), []))
    assert len(found.item) == len(own) - 1
    assert perf_counter() - started < 10  # all pairs would take some minutes


def test_another_process_finds_the_same() -> None:
    code = (
        "import json; from tests.corpus.test_duplicates import _random, find;"
        "print(json.dumps([each.tolist() for each in find(_random(11)[1])]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [each.tolist() for each in find(_random(11)[1])]


@pytest.mark.skipif(not FOLDER.exists(), reason="needs the real conversations of ../shared/data")
def test_planted_copies_are_found_and_little_else() -> None:
    work = bench.planted(1500, seed=1)
    found = bench.judge(work, list(bench._ours(work))[-1])
    assert found["recall"] >= bench.FOUND
    assert found["precision"] >= bench.TRUE
