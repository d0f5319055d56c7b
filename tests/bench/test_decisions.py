from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest

from theta_ml.bench import decisions, decisions_models, decisions_work
from theta_ml.bench.decisions import small_slices, smallest_effect
from theta_ml.bench.decisions_arena import Arena, Model, Pair, pairs, read
from theta_ml.bench.decisions_models import Group, kept, trained
from theta_ml.bench.decisions_work import files, is_learned, is_scored
from theta_ml.evaluation.comparison import Scores
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.thresholds import Thresholds

SIZE = 1500
SAID = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello, what can I do for you?"}]


@pytest.fixture(scope="module")
def arena() -> Arena:
    conversations = [
        HeldOut(f"c{n}", "2026-03", ("irc", "shop")[n % 10 == 0], "any", "en", "short", messages=SAID)  # type: ignore[arg-type]
        for n in range(SIZE)
    ]
    return Arena(conversations, Thresholds())


def _model(factor: np.ndarray | float) -> Model:
    random = np.random.default_rng(1)
    sizes = np.rint(random.lognormal(5, 0.6, SIZE)) + 10
    nats = 1.3 * sizes * random.normal(1, 0.1, SIZE) * factor * np.random.default_rng(2).normal(1, 0.02, SIZE)
    return Model(Scores(nats, sizes, sizes / 3, sizes / 9))


def test_the_real_gate_decides_and_the_peer_looks_at_two_numbers(arena: Arena) -> None:
    champion, lucky, better = _model(1.0), _model(0.999), _model(0.98)
    [one] = arena.decide("lucky", [Pair(champion, lucky, 1)])
    assert (one.promotes, one.peer_promotes) == (False, True)
    [two] = arena.decide("better", [Pair(champion, better, 1)])
    assert (two.promotes, two.peer_promotes) == (True, True)
    assert two.verdict.sentence.startswith("Promoted: ")


def test_a_slice_that_got_worse_is_a_no_for_that_alone(arena: Arena) -> None:
    shop = np.arange(SIZE) % 10 == 0
    [decision] = arena.decide("a slice", [Pair(_model(1.0), _model(np.where(shop, 1.15, 0.95)), 1)])
    assert decision.peer_promotes
    assert decision.failed == {"slices"}
    assert "source shop" in decision.verdict.sentence


def test_a_small_slice_is_made_worse_by_as_much_as_is_said(arena: Arena) -> None:
    few = [
        replace(each, source="irc", topic="rare" if n % 20 == 0 else "any")
        for n, each in enumerate(arena.conversations)
    ]
    [(name, where)] = small_slices(few).items()
    assert (name, len(where)) == ("topic rare", SIZE // 20)
    champion, better = _model(1.0), _model(0.98)
    worse = better.worse(where, champion, by=0.2)
    ours, theirs = worse.scores.bits_per_byte(where), champion.scores.bits_per_byte(where)
    assert ours is not None and theirs is not None and ours - theirs == pytest.approx(0.2)
    others = np.setdiff1d(np.arange(SIZE), where)
    assert np.array_equal(worse.scores.nats[others], better.scores.nats[others])
    [decision] = replace(arena, conversations=few).decide("rare", [Pair(champion, worse, 1)])
    assert "slices" in decision.failed and "topic rare" in decision.verdict.sentence


def test_the_smallest_effect_lets_no_more_pass_than_was_allowed(arena: Arena) -> None:
    margins = np.linspace(-0.02, 0.02, 400)
    effect = smallest_effect(margins, 0.025)
    assert (margins > effect).mean() <= 0.025 < (margins > effect - 2e-4).mean()
    assert smallest_effect(margins - 1, 0.025) == 0.0
    pair = Pair(_model(1.0), _model(0.98), 1)
    [margin] = arena.margins([pair])
    asks_less, asks_more = (replace(arena, thresholds=Thresholds(min_effect=margin + by)) for by in (-1e-6, 1e-6))
    assert [each.decide("better", [pair])[0].promotes for each in (asks_less, asks_more)] == [True, False]


def test_every_model_meets_every_other_and_never_itself() -> None:
    models = [_model(1.0), _model(0.9), _model(0.8)]
    found = list(pairs(models, models, draws=2))
    assert len(found) == 12
    assert all(pair.champion is not pair.candidate for pair in found)
    assert len({pair.seed for pair in found}) == 12


def test_scores_of_another_pool_are_refused(arena: Arena, tmp_path: Path) -> None:
    numbers = {name: [1.0, 1.0] for name in ("nats", "bytes", "tokens", "correct")}
    pl.DataFrame({"conversation_id": ["c0", "x"], **numbers}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(click.ClickException, match="remove it"):
        read(tmp_path / "x.parquet", arena.conversations[:2])
    same = [replace(arena.conversations[0], conversation_id=name) for name in ("c0", "x")]
    assert len(read(tmp_path / "x.parquet", same).nats) == 2


def test_nothing_that_is_learned_from_is_scored() -> None:
    names = [f"sgd/{number}" for number in range(5000)]
    assert not [name for name in names if is_learned(name) and is_scored(name)]
    assert 500 < sum(map(is_scored, names)) < 1000  # a seventh


def test_what_is_kept_is_not_trained_again_and_hangs_on_what_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        files()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("THETA_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(decisions_models, "_train", lambda jobs: pytest.fail(f"{len(jobs)} models were trained"))
    kept().mkdir()
    (kept() / "all-5-1.parquet").touch()
    assert trained([Group("few steps", "all", 5, [1])]) == {"few steps": [kept() / "all-5-1.parquet"]}
    before = kept()
    monkeypatch.setattr(decisions_work, "LEARNED", 41)
    assert kept() != before


def test_the_groups_are_as_large_as_was_promised() -> None:
    assert len(decisions.SAME.seeds) >= 12
    assert len(decisions.BETTER.seeds) >= 12
    assert len(decisions.LOPSIDED.seeds) >= 6
