"""Both sides of `theta bench train` see the same tokens; what the benchmarks print is in the benchmarks' frame."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from theta_ml.bench import BENCHMARKS, COLUMNS
from theta_ml.bench.landing import FOLDER
from theta_ml.bench.quality import _rows as quality_rows
from theta_ml.bench.quality_work import Quality
from theta_ml.bench.train import _speed_rows
from theta_ml.bench.train_corpus import held_out, pack_corpus
from theta_ml.bench.train_work import dataset_of, useful_tokens
from theta_ml.training.compiling import missing_compiler, pays
from theta_ml.training.data import make_batch

real = pytest.mark.skipif(not FOLDER.exists(), reason=f"no real conversations at {FOLDER}")


@real
def test_peer_is_given_the_same_tokens_and_labels(tmp_path: Path) -> None:
    corpus = pack_corpus(tmp_path, 1024, 128, every=400)
    rows = corpus.rows("train")
    batch = make_batch(rows, list(range(rows.count)))
    dataset = dataset_of(corpus)
    documents = corpus.documents("train")
    assert useful_tokens(batch, corpus.tokenizer().pad) == sum(map(len, dataset["input_ids"])) > 10_000
    assert len(batch["loss_at"]) == sum(int((np.array(labels) != -100).sum()) for labels in dataset["labels"])
    assert int((batch["position_ids"] == 0).sum()) >= len(documents)
    assert all(document.tokens[0] == corpus.tokenizer().begin for document in documents)


@real
def test_held_out_conversations_are_of_all_files() -> None:
    conversations = held_out(40)
    assert len(conversations) == 40
    assert all(messages and {m["role"] for m in messages} <= {"user", "assistant"} for messages in conversations)


def test_rows_are_of_the_frame_and_a_missed_target_is_not_ok() -> None:
    def turn(rate: float) -> dict[str, float]:
        return {"tokens_per_second": rate, "tokens_per_cpu_second": rate / 2}

    turns = {"ours": [turn(40.0), turn(20.0)], "best": [turn(9.0), turn(4.5)], "packed": [turn(6.0), turn(3.0)]}
    rows = _speed_rows(turns, "best", "packed")
    assert all(tuple(row) == COLUMNS for row in rows)
    assert [row["ok"] for row in rows[:2]] == [True, False]  # 4.4 of the 4, and 6.7 of the 8
    ours, peer = Quality(2.0, 100, 10, 5), Quality(1.9, 100, 10, 5)
    assert not quality_rows([ours], [peer])[0]["ok"]
    assert quality_rows([peer], [ours])[0]["ok"]
    with pytest.raises(AssertionError, match="other work"):
        quality_rows([ours], [Quality(**(asdict(peer) | {"tokens": 99}))])
    assert {"train", "quality"} <= set(BENCHMARKS)


def test_compiling_pays_from_some_minutes_on() -> None:
    assert not pays(1_700_000, 560 * 4 * 256, "cpu")
    assert pays(1_700_000, 20 * 560 * 4 * 256, "cpu")


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    assert "install g++" in str(missing_compiler())
    cpp_builder.cpp_compiler_search.cache_clear()
