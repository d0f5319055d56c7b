"""The parts of a training: presets, schedule, rows of a step, checkpoints, the guard, the lock."""

import errno
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.training.made_rows import MadeRows
from theta_ml.events import Events
from theta_ml.model.modeling_theta import IGNORED
from theta_ml.stage import StageFailed
from theta_ml.store import MARKER
from theta_ml.training.checkpoints import MODEL, STATE, Checkpoints, is_complete, remove_others
from theta_ml.training.data import PADDING, EpochOrder, InOrder, loss_tokens, make_batch
from theta_ml.training.guard import Diverged, Guard, is_leaping, last_good_step, look_at
from theta_ml.training.lock import checkpoints_lock, training_lock
from theta_ml.training.presets import BASE, TINY, Hyper, ModelShape
from theta_ml.training.progress import Progress
from theta_ml.training.random_state import RandomState
from theta_ml.training.schedule import Plan
from theta_ml.training.stop import Stopped

CPU = torch.device("cpu")


def test_the_presets_are_as_promised() -> None:
    assert (BASE.shape.hidden_size, BASE.shape.layers, BASE.shape.dropout) == (768, 12, 0.2)
    assert (BASE.hyper.weight_decay, BASE.hyper.warmup, BASE.hyper.rate_champion) == (0.01, 0.15, 5e-5)
    assert BASE.hyper.rate_scratch > BASE.hyper.rate_champion


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
    assert [plan.epoch(step) for step in (1, 1000, 1001, 3000)] == [1, 1, 2, 3]


def test_every_epoch_sees_every_row_once_in_its_own_order_and_then_padding() -> None:
    order = EpochOrder(18, multiple=4, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        epochs.append(list(order))
    assert all(sorted(each[:18]) == list(range(18)) and each[18:] == [PADDING] * 2 for each in epochs)
    assert epochs[0] == epochs[2] != epochs[1] and len(order) == 20
    assert list(InOrder(5, multiple=4)) == [0, 1, 2, 3, 4, PADDING, PADDING, PADDING]


def test_padding_keeps_the_shape_and_bears_no_loss() -> None:
    rows = MadeRows(5)
    batch, alone = make_batch(rows, [3, PADDING, 4]), make_batch(rows, [3, 4])
    assert batch["input_ids"].shape == (3, 16) and loss_tokens(batch) == loss_tokens(alone)
    assert (batch["labels"][1] == IGNORED).all()
    at = batch["loss_at"]
    assert at.tolist() == [
        row * 16 + t for row in range(3) for t in range(15) if batch["labels"][row, t + 1] != IGNORED
    ]
    assert loss_tokens(make_batch(rows, [3, PADDING, 4], loss_at=False)) == len(at)


def test_the_tokens_of_steps_are_those_of_their_rows() -> None:
    plan = Plan.of(replace(TINY.hyper, epochs=3), rows=18, peak=1e-3)
    assert (plan.steps_per_epoch, plan.steps) == (5, 15)
    assert [plan.rows_before(step) for step in (0, 1, 4, 5, 6, 15)] == [0, 4, 16, 18, 22, 54]


def state(best: int | None = None) -> dict[str, str]:
    return {STATE: json.dumps({"best_global_step": best})}


@pytest.mark.parametrize("harm", ["no marker", "short file", "no file", "empty marker"])
def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, harm: str) -> None:
    checkpoints, tensors = Checkpoints(tmp_path), {MODEL: {"a": torch.ones(3)}}
    for step in (9, 10):
        checkpoints.save(step, tensors, state())
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
    checkpoints.save(10, tensors, state())
    assert checkpoints.newest() == torn and not (tmp_path / ".partial-1").exists()


def test_the_last_two_and_the_best_that_they_know_of_are_kept(tmp_path: Path) -> None:
    checkpoints, tensors = Checkpoints(tmp_path), {MODEL: {"a": torch.ones(3)}}
    (tmp_path / "step-999").mkdir(parents=True)  # torn
    for step, best in ((1, 1), (2, 2), (3, 3), (4, 3)):
        if best == step:
            checkpoints.save_best(step, tensors[MODEL])
        checkpoints.save(step, tensors, state(best))
        # Should the newest be torn, the one before it still finds its own best.
        bests = {max(1, min(step - 1, 3)), best}
        assert {folder.name for folder in tmp_path.glob("best-*")} == {f"best-{each}" for each in bests}
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["best-3", "step-3", "step-4"]
    (tmp_path / "best-3" / MARKER).unlink()
    with pytest.raises(FileNotFoundError, match="train again"):
        checkpoints.best(3)


def test_after_trouble_the_checkpoints_that_may_hold_it_are_forgotten_but_never_all(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (7, 8):
        checkpoints.save(step, {}, state())
    checkpoints.forget_from(8)
    assert checkpoints.newest() == tmp_path / "step-7"
    checkpoints.forget_from(3)
    assert checkpoints.newest() == tmp_path / "step-7"


def test_a_full_disk_is_an_os_error_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {MODEL: {"a": torch.ones(3)}}, state())

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("theta_ml.training.checkpoints.save_file", full)
    with pytest.raises(OSError) as caught:
        checkpoints.save(2, {MODEL: {"a": torch.ones(3)}}, state())
    assert caught.value.errno == errno.ENOSPC
    assert checkpoints.newest() == tmp_path / "step-1"


def lines_of(*losses: float) -> list[dict[str, float]]:
    return [{"step": step, "train_loss": loss} for step, loss in enumerate(losses, 1)]


def test_a_leap_that_lasts_is_a_spike_and_one_odd_batch_is_none() -> None:
    calm = [3.0, 3.2, 2.9, 3.1, 3.0, 2.8, 3.3, 3.0, 2.9, 3.0]
    for count in range(1, len(calm) + 1):
        look_at(lines_of(*calm[:count]))
        assert not is_leaping(lines_of(*calm[:count]))
    look_at(lines_of(*calm, 9.0))
    assert is_leaping(lines_of(*calm, 9.0)) and last_good_step(lines_of(*calm, 9.0)) == 10
    look_at(lines_of(*calm, 9.0, 8.0, 9.0, 3.1))
    assert not is_leaping(lines_of(*calm, 9.0, 8.0, 9.0, 3.1))
    with pytest.raises(Diverged, match=r"the loss rose to 8.000 at step 14"):
        look_at(lines_of(*calm, 9.0, 9.0, 9.0, 8.0))
    assert last_good_step(lines_of(*calm, 9.0, 9.0, 9.0, 8.0)) == 10


def test_rows_known_by_heart_beside_others_are_no_spike() -> None:
    chance = random.Random(1)
    mixed = [statistics.mean(chance.choices([0.1, 4.0], [0.85, 0.15], k=4)) for _ in range(1000)]
    for count in range(1, len(mixed) + 1):
        look_at(lines_of(*mixed[max(0, count - 64) : count]))
    with pytest.raises(Diverged, match="the loss became nan at step 3"):
        look_at(lines_of(3.0, 3.0, math.nan))
    assert last_good_step(lines_of(3.0, 3.0, math.nan)) == 2


def test_the_number_of_returns_survives_a_kill(tmp_path: Path) -> None:
    reason = Diverged("the loss became nan at step 3")
    for rollbacks, scale in ((1, 0.5), (2, 0.25)):
        Guard.load(tmp_path).back(reason, tmp_path, peak=1e-3)
        assert Guard.load(tmp_path) == Guard(rollbacks, scale)
    with pytest.raises(StageFailed, match=r"nan at step 3; .* lower the peak learning rate of 0.001"):
        Guard.load(tmp_path).back(reason, tmp_path, peak=1e-3)


def test_random_state_comes_back(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [float(torch.rand(1)), float(np.random.rand()), random.random()]

    before = RandomState.now(CPU)
    save_file(before.tensors, tmp_path / "random")
    expected = draw()
    assert draw() != expected
    RandomState(load_file(tmp_path / "random")).restore(CPU)
    assert draw() == expected


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


def test_an_attempt_waits_for_the_processes_of_a_killed_one_unless_it_is_asked_to_stop(tmp_path: Path) -> None:
    script = (
        "import sys, threading; from pathlib import Path; from theta_ml.training.lock import checkpoints_lock\n"
        "with checkpoints_lock(Path(sys.argv[1]), threading.Event(), print):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    left = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert left.stdin and left.stdout and left.stdout.readline() == b"held\n"
    said: list[str] = []
    asked = threading.Event()
    threading.Timer(0.3, asked.set).start()
    with pytest.raises(Stopped), checkpoints_lock(tmp_path, asked, said.append):
        pytest.fail("two attempts at once")
    assert len(said) == 1 and "waiting for the processes of an earlier attempt" in said[0]
    threading.Timer(0.3, left.kill).start()
    with checkpoints_lock(tmp_path, threading.Event(), said.append):
        assert left.wait(10) == -signal.SIGKILL
    left.communicate()


def test_progress_survives_json() -> None:
    progress = Progress(line_loss=0.1, line_step=3, tokens=12, validation_due=True)
    assert Progress.from_json(progress.to_json()) == progress


def test_hyper_parameters_that_there_are_none_of_are_named() -> None:
    assert TINY.hyper.changed({"epochs": 2, "patience": 3}).epochs == 2
    with pytest.raises(ValueError, match=r"no hyper-parameter speed: choose among rows_per_step, .*patience"):
        TINY.hyper.changed({"speed": 2})
    with pytest.raises(ValueError, match="patience is 0: choose at least 1"):
        TINY.hyper.changed({"patience": 0})
