"""Pairs of a liked and a disliked answer, read out of a packed corpus."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.snapshots import conversations, passed_checks, record, write_snapshot
from theta_ml.corpus.pairs import Pair, find_pairs
from theta_ml.corpus.prepare import STAGE
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import run_stage
from theta_ml.store import Artifact, Store

MONTH = "2026-01"
WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lm", "nt", "rs", "st")]


def _rated(name: str, question: str, answer: str, rating: float, split: str = "train") -> dict[str, Any]:
    """A conversation that goes on after the answer, so that it is no near copy of another with the same question."""
    chance = random.Random(name)
    more = [("user", " ".join(chance.choices(WORDS, k=12))), ("assistant", " ".join(chance.choices(WORDS, k=12)))]
    texts = [("user", question), ("assistant", answer), *more]
    return record(name, MONTH, texts, split) | {"rating": rating}


def _words(seed: str) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=15))


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]


def _corpus(settings: Settings, rows: list[dict[str, Any]], others: int = 60, **values: Any) -> tuple[Artifact, Store]:
    store = Store(settings.artifacts, settings.home / "cache")
    snapshot = write_snapshot(store, {MONTH: [*conversations(MONTH, others), *rows]})
    spec = PrepareSpec(MONTH, datasets="none", **values)
    with Events("prepare") as events:
        result = run_stage(STAGE, spec, [snapshot, *passed_checks(store)], "test", settings, events)
    return store.open(result.uri), store


def _texts(corpus: Artifact, pairs: list[Pair]) -> set[tuple[str, str, str]]:
    tokenizer = ChatTokenizer.load(corpus.path / "tokenizer").tokenizer
    return {(*(tokenizer.decode(ids, skip_special_tokens=True) for ids in pair),) for pair in pairs}


def test_pairs_are_one_question_answered_twice(settings: Settings) -> None:
    asked = "Where is the blue kettle that I ordered?"
    good, bad = _words("good"), _words("bad")
    corpus, store = _corpus(
        settings,
        [
            _rated("liked", asked, good, 5),
            _rated("disliked", asked, bad, 1),
            _rated("so-so", asked, _words("so"), 3),
            _rated("another question", "How do I send it back?", _words("another"), 1),
        ],
    )
    assert _texts(corpus, find_pairs(corpus, "train", store)) == {(asked, good, bad)}
    tokenizer = ChatTokenizer.load(corpus.path / "tokenizer")
    for pair in find_pairs(corpus, "train", store):
        assert pair.prompt[0] == tokenizer.begin and pair.prompt[-1] == tokenizer.roles["assistant"]
        assert pair.chosen[-1] == pair.rejected[-1] == tokenizer.end


def test_a_test_conversation_gives_no_pair_and_validation_has_its_own(settings: Settings) -> None:
    asked = "Which of the two lamps is brighter?"
    rows = [
        _rated("good", asked, _words("g"), 5, "validation"),
        _rated("bad", asked, _words("b"), 1, "validation"),
        _rated("good-in-test", "Is it open on Sundays?", _words("gt"), 5, "test"),
        _rated("bad-in-train", "Is it open on Sundays?", _words("bt"), 1, "train"),
    ]
    corpus, store = _corpus(settings, rows)
    assert find_pairs(corpus, "train", store) == []
    assert _texts(corpus, find_pairs(corpus, "validation", store)) == {(asked, _words("g"), _words("b"))}


def test_what_the_corpus_leaves_out_of_one_user_stays_out(settings: Settings) -> None:
    rows = [
        _rated(f"{kind}-{n}", f"Question {_words(str(n))}?", _words(f"{kind}{n}"), rating) | {"user_id": f"user {kind}"}
        for n in range(20)
        for kind, rating in (("good", 5.0), ("bad", 1.0))
    ]
    corpus, store = _corpus(settings, rows, others=300, user_share=1.0)
    assert len(find_pairs(corpus, "train", store)) == 20
    capped, store = _corpus(settings, rows, others=300, user_share=0.05)
    assert len(find_pairs(capped, "train", store)) < 20


def test_a_disliked_copy_of_an_older_month_s_test_conversation_gives_no_pair(settings: Settings) -> None:
    store = Store(settings.artifacts, settings.home / "cache")
    asked, later = "Does the green lamp come with a bulb?", "2026-02"
    judged = _rated("judged", asked, _words("bad"), 3, "test")
    rows = [
        _rated("liked", asked, _words("good"), 5) | {"month": later},
        judged | {"conversation_id": "again", "month": later, "split": "train", "rating": 1.0},
    ]
    months = {MONTH: [*conversations(MONTH, 60), judged], later: [*conversations(later, 60), *rows]}
    spec = PrepareSpec(later, datasets="none")
    with Events("prepare") as events:
        inputs = [write_snapshot(store, months), *passed_checks(store)]
        result = run_stage(STAGE, spec, inputs, "test", settings, events)
    assert find_pairs(store.open(result.uri), "train", store) == []
