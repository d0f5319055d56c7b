"""The stage `preflight`: what holds passes, what does not says what to change."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.training.made_rows import MadeRows
from tests.training.packed import MONTH, Packed, database, packed
from tests.training.small import model_of
from theta_ml.corpus.prepare import PackedCorpus
from theta_ml.corpus.rows import Rows
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed, Work, run_stage
from theta_ml.store import Artifact
from theta_ml.training import preflight, trial
from theta_ml.training.checkpoints import STATE, Checkpoints
from theta_ml.training.hardware import name_of, pick_device
from theta_ml.training.methods import Method
from theta_ml.training.presets import PRESETS, TINY, Hyper, ModelShape
from theta_ml.training.resources import disk_bytes
from theta_ml.training.start import Start
from theta_ml.training.trainer import ThetaTrainer

Look = Callable[..., dict[str, Any]]
__all__ = ["database", "packed"]  # fixtures


@pytest.fixture
def look(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Runs the stage on a small model; a seed of its own for each keeps one from finding another's report."""
    shape = ModelShape(hidden_size=32, layers=1, heads=2, intermediate_size=64)
    monkeypatch.setitem(PRESETS, "tiny", replace(TINY, shape=shape))

    def run(settings: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
        chosen = Settings(home=packed.home, **(settings or {}))
        look = preflight.PreflightSpec(MONTH, **given)
        with Events("preflight") as events:
            result = run_stage(preflight.STAGE, look, [packed.corpus], "test", chosen, events)
        return dict(packed.store.open(result.uri).document["value"])

    return run


def test_what_can_be_trained_passes_with_its_numbers(look: Look) -> None:
    report = look()
    assert report["passed"] and report["loss_last"] < 0.95 * report["loss_first"]
    assert 0 < report["estimated_memory_bytes"] < report["available_memory_bytes"]
    assert 0 < report["estimated_disk_bytes"] < report["free_disk_bytes"]
    assert report["rows_at_once"] == TINY.hyper.rows_per_step and not report["gradient_checkpointing"]
    tokens = report["steps"] * TINY.hyper.rows_per_step * 256
    assert report["estimated_seconds"] == pytest.approx(tokens / report["tokens_per_second"])


def test_time_memory_and_disk_must_suffice(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageFailed, match="h of the 1e-06 allowed: choose a smaller preset"):
        look(max_hours=1e-6)
    with monkeypatch.context() as small:
        small.setattr(preflight, "room_for_one", lambda device, load: 1 << 20)
        with pytest.raises(StageFailed, match=r"a single row of 256 tokens.*choose a smaller preset"):
            look(seed=2)
    with monkeypatch.context() as full:
        full.setattr(preflight, "free_disk", lambda folder: 1 << 10)
        with pytest.raises(StageFailed, match=r"GiB and 0.0 are free: make room, or set THETA_HOME"):
            look(seed=3)


def test_a_gpu_that_is_required_must_be_there(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(StageFailed, match=r"nvidia-smi.*or unset THETA_REQUIRE_GPU"):
        look({"require_gpu": True}, seed=4)


def test_a_corpus_must_fill_a_step(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    hyper = replace(TINY.hyper, rows_per_step=4096, rows_at_once=4)
    monkeypatch.setitem(PRESETS, "tiny", replace(TINY, hyper=hyper))
    with pytest.raises(StageFailed, match="and a step takes 4096: add datasets"):
        look(seed=5)


def test_processes_must_share_a_step(look: Look) -> None:
    with pytest.raises(StageFailed, match="rows_per_step 4 cannot be shared by 3 processes"):
        look({"train_processes": 3}, seed=6)


def test_what_cannot_be_learned_says_where_to_look(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trial.one_step

    def broken(*arguments: Any) -> float:
        real(*arguments)
        return float("nan")

    monkeypatch.setattr(trial, "one_step", broken)
    with pytest.raises(StageFailed, match=r"the loss was nan at step 1 of the trial.*lower the rate"):
        look(seed=7)
    monkeypatch.setattr(trial, "one_step", lambda *arguments: 5.0)
    with pytest.raises(StageFailed, match=r"could not be learned: their loss went from 5.000 to 5.000"):
        look(seed=8)


def test_training_looks_again_for_a_report_may_be_of_another_day_and_another_device(
    packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here and now, for the steps that are left, in the processes that there are."""
    model = model_of("tiny")
    rows = cast(Rows, MadeRows(8, 64))
    begun, method = Start(model, "scratch", 3e-3, "rate_scratch"), Method(ThetaTrainer, rows, rows, {})
    corpus = replace(Inputs.open(packed.store, [packed.corpus]).noun("prepare", PackedCorpus), max_length=64)
    hyper = TINY.hyper.changed({"epochs": 500, "max_steps": 1000, "rows_per_step": 4})
    value = {"passed": True, "device": name_of(pick_device()), "tokens_per_second": 64.0}
    document = {"value": value, "spec": {"max_hours": 1.0}}
    report = Artifact("preflight", "key", "uri", packed.home, document)

    def again(processes: int = 1, hyper: Hyper = hyper) -> None:
        settings = Settings(home=packed.home, train_processes=processes)
        with Events("train") as events:
            work = Work("test", "key", tmp_path, settings, packed.store, events)
            preflight.look_again(report, corpus, rows, begun, method, hyper, tmp_path, work)

    with pytest.raises(StageFailed, match=r"about 1\.1 h of the 1 allowed"):
        again()  # 1000 steps of 4 rows of 64 tokens at 64 tokens/s
    again(processes=2)
    again(hyper=replace(hyper, max_steps=800))
    Checkpoints(tmp_path).save(200, {}, {STATE: '{"best_global_step": null}'})
    again()  # of which 200 are done
    Checkpoints(tmp_path).forget_from(0)
    value["device"] = "another"
    again()  # where it is faster
    monkeypatch.setattr(preflight, "free_disk", lambda folder: 1 << 10)
    with pytest.raises(StageFailed, match=r"GiB and 0.0 are free: make room"):
        again()
    (tmp_path / "step-300").mkdir()
    (tmp_path / "step-300" / "model.safetensors").write_bytes(bytes(disk_bytes(model)))
    again()  # what the checkpoints hold already they need no more


@pytest.mark.parametrize("kind", ["gpt2", "adapters"])
def test_any_model_that_a_recipe_starts_from_is_tried(kind: str) -> None:
    """With a teacher that looks on, as when a student is distilled."""
    tried = trial.try_out(model_of(kind), MadeRows(8, 64), 3e-3, 1, [model_of("theta")])
    assert len(tried.losses) == trial.STEPS and tried.tokens_per_second > 0
    assert tried.losses[-1] < trial.FALL * tried.losses[0]
