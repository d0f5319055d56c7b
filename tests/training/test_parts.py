"""The parts of a training: presets, schedule, rows of a step, checkpoints, the lock."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from theta_ml.events import Events
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.store import MARKER
from theta_ml.training.batches import rows_of_step
from theta_ml.training.checkpoints import MODEL, Checkpoints, Random, is_complete, remove_others
from theta_ml.training.lock import training_lock
from theta_ml.training.loop import make_optimizer
from theta_ml.training.presets import BASE, TINY, Hyper, ModelShape
from theta_ml.training.progress import Progress
from theta_ml.training.resources import needs
from theta_ml.training.schedule import Plan

CPU = torch.device("cpu")


def small_model() -> ThetaForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    return ThetaForCausalLM(ThetaConfig(**shape, num_attention_heads=2, max_position_embeddings=16))


def one_step(model: ThetaForCausalLM, optimizer: torch.optim.Optimizer) -> float:
    tokens = torch.arange(16).unsqueeze(0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    loss = model.train()(tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def test_the_presets_are_as_promised() -> None:
    assert (BASE.shape.hidden_size, BASE.shape.layers, BASE.shape.dropout) == (768, 12, 0.2)
    assert (BASE.hyper.weight_decay, BASE.hyper.warmup, BASE.hyper.rate_champion) == (0.01, 0.15, 5e-5)
    assert BASE.hyper.rate_scratch > BASE.hyper.rate_champion
    assert needs(BASE, 98_000_000, 16_384, 1024).memory_bytes < 40 << 30
    assert needs(TINY, 2_000_000, 2048, 256).memory_bytes < 1 << 30


def test_a_preset_that_makes_no_sense_says_what_to_choose() -> None:
    with pytest.raises(ValueError, match="choose heads"):
        ModelShape(hidden_size=100, layers=1, heads=3, intermediate_size=10)
    with pytest.raises(ValueError, match="choose rows_at_once as a divisor"):
        Hyper(rows_per_step=8, rows_at_once=3, epochs=1, max_steps=1, rate_scratch=1, rate_champion=1)


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing() -> None:
    plan = Plan.of(BASE.hyper, rows=64_000, peak=5e-5)
    assert (plan.steps, plan.steps_per_epoch, plan.warmup_steps) == (3000, 1000, 450)
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert max(rates) == pytest.approx(rates[449]) == pytest.approx(rates[450]) == pytest.approx(5e-5)
    assert rates[:450] == sorted(rates[:450]) and rates[450:] == sorted(rates[450:], reverse=True)
    assert rates[-1] < 1e-10
    assert [step for step in range(3001) if plan.ends_epoch(step)] == [1000, 2000, 3000]
    assert [plan.epoch(step) for step in (1, 1000, 1001, 3000)] == [1, 1, 2, 3]


def test_every_epoch_sees_every_row_once_in_its_own_order() -> None:
    epochs = [[int(r) for step in range(e * 5, e * 5 + 5) for r in rows_of_step(18, 4, 1, step)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(18))
    assert epochs[0] != epochs[1]
    assert list(rows_of_step(18, 4, 1, 7)) == list(rows_of_step(18, 4, 1, 7))


def test_a_checkpoint_brings_back_everything(tmp_path: Path) -> None:
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    optimizer = make_optimizer(model, TINY.hyper)
    one_step(model, optimizer)
    progress = Progress(step=1, history=[{"step": 1, "train_loss": 4.25}])
    checkpoints.save(model, optimizer, progress, Random.now(CPU))
    expected = [one_step(model, optimizer) for _ in range(3)]
    other = small_model()
    moments = make_optimizer(other, TINY.hyper)
    newest = checkpoints.newest()
    assert newest is not None
    assert checkpoints.load(newest, other, moments, CPU) == progress
    assert [one_step(other, moments) for _ in range(3)] == expected
    assert not list(tmp_path.rglob("*.p*kl")) and not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("harm", ["no marker", "short file", "no file", "empty marker"])
def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, harm: str) -> None:
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    optimizer = make_optimizer(model, TINY.hyper)
    for step in (9, 10):
        checkpoints.save(model, optimizer, Progress(step=step), Random.now(CPU))
    torn = tmp_path / "step-10"
    if harm == "no marker":
        (torn / MARKER).unlink()
    elif harm == "empty marker":
        (torn / MARKER).write_text("")
    elif harm == "short file":
        (torn / MODEL).write_bytes((torn / MODEL).read_bytes()[:-1])
    else:
        (torn / MODEL).unlink()
    (tmp_path / ".partial-1").mkdir()
    assert not is_complete(torn)
    assert checkpoints.newest() == tmp_path / "step-9"
    checkpoints.save(model, optimizer, Progress(step=10), Random.now(CPU))
    assert checkpoints.newest() == torn and not (tmp_path / ".partial-1").exists()


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    model, checkpoints = small_model(), Checkpoints(tmp_path)
    optimizer = make_optimizer(model, TINY.hyper)
    for step in (1, 2, 3, 4):
        best = min(step, 3)
        if best == step:
            checkpoints.save_best(model, step)
        checkpoints.save(model, optimizer, Progress(step=step, best_step=best), Random.now(CPU))
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["best-3", "step-3", "step-4"]
    (tmp_path / "best-3" / MARKER).unlink()
    with pytest.raises(FileNotFoundError, match="train again"):
        checkpoints.load_best(model, 3)


def test_checkpoints_of_finished_trainings_are_removed(tmp_path: Path) -> None:
    for key in ("done", "mine", "unfinished"):
        (tmp_path / key).mkdir()
    remove_others(tmp_path, "mine", frozenset({"done", "mine"}))
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["mine", "unfinished"]


def test_a_second_training_waits_for_the_first_and_says_for_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import sys; from pathlib import Path; from theta_ml.events import Events;"
        "from theta_ml.training.lock import training_lock\n"
        "with training_lock(Path(sys.argv[1]), 'first', 'k', Events('train')):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin and holder.stdout and holder.stdout.readline() == b"held\n"
    got = threading.Event()

    def second() -> None:
        with Events("train") as events, training_lock(tmp_path, "second", "k", events):
            got.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not got.wait(0.5)
    holder.kill()  # the kernel gives the lock back
    assert got.wait(10)
    waiting.join()
    holder.communicate()
    said = capsys.readouterr().err
    assert f"process {holder.pid} of run first" in said.replace("\n", " ")


def test_progress_survives_json() -> None:
    progress = Progress(step=3, best_step=2, best_validation_loss=1.5, history=[{"step": 1, "train_loss": 0.1}])
    assert Progress.from_json(json.dumps(json.loads(progress.to_json()))) == progress
