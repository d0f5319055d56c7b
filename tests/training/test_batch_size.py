"""How many rows are computed at once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.small import model_of
from theta_ml.stage import StageFailed
from theta_ml.training import batch_size
from theta_ml.training.batch_size import (
    FILE,
    BatchSize,
    choose,
    find_batch_size,
    forward_and_backward,
    keep,
    kept,
    largest,
    shares,
    tried_out,
)
from theta_ml.training.presets import PRESETS
from theta_ml.training.resources import Load, estimate

LOAD = Load(64)


def test_the_largest_divisor_that_fits_is_taken() -> None:
    model = model_of("tiny")
    needed = estimate(model, LOAD)
    for room, rows in ((needed.of(12), 12), (needed.of(11), 6), (needed.of(5), 4), (needed.of(1), 1)):
        found = find_batch_size(model, LOAD, 12, room)
        assert found == BatchSize(rows, False, needed.of(rows))
    assert find_batch_size(model, LOAD, 12, needed.of(12), most=5).rows_at_once == 4
    assert find_batch_size(model, replace(LOAD, processes=2), 12, needed.of(12)).rows_at_once == 6


def test_where_not_even_one_row_fits_activations_are_computed_again() -> None:
    model, long = model_of("theta"), Load(512)
    plain, again = estimate(model, long), estimate(model, replace(long, gradient_checkpointing=True))
    found = find_batch_size(model, long, 4, plain.of(1) - 1)
    assert found.gradient_checkpointing and found.memory_bytes == again.of(found.rows_at_once) < plain.of(1)
    with pytest.raises(StageFailed, match=r"a single row of 512 tokens.*choose a smaller preset.*SHARDING=full"):
        find_batch_size(model, long, 4, again.of(1) - 1)


def test_a_recipe_that_asks_for_gradient_checkpointing_has_it(tmp_path: Path) -> None:
    hyper = PRESETS["tiny"].hyper
    for asked in (False, True):
        chosen = choose(model_of("tiny"), LOAD, hyper.changed({"gradient_checkpointing": asked}), tmp_path / str(asked))
        assert chosen.gradient_checkpointing == asked


def test_processes_have_equal_parts_of_a_step() -> None:
    assert shares(12, 2) == [6, 3, 2, 1]
    with pytest.raises(StageFailed, match="rows_per_step 4 cannot be shared by 3 processes: set THETA_TRAIN_PROCESSES"):
        shares(4, 3)


def test_a_resumed_training_keeps_to_its_batch_size(tmp_path: Path) -> None:
    assert kept(tmp_path) is None
    keep(tmp_path / "new", BatchSize(4, True, 7))
    assert kept(tmp_path / "new") == BatchSize(4, True, 7)
    (tmp_path / "new" / FILE).write_text('{"rows')
    assert kept(tmp_path / "new") is None


def test_a_resume_with_less_memory_chooses_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, hyper = model_of("tiny"), PRESETS["tiny"].hyper
    needed = estimate(model, LOAD)
    assert hyper.rows_per_step == 4
    for room, rows in ((needed.of(2), 2), (needed.of(4), 2), (needed.of(1), 1)):
        monkeypatch.setattr(batch_size, "room_for_one", lambda device, load, room=room: room)
        assert choose(model, LOAD, hyper, tmp_path).rows_at_once == rows


def test_what_a_gpu_does_not_hold_is_tried_smaller_and_then_computed_again() -> None:
    found = BatchSize(8, False, 1)
    assert largest(found, [12, 8, 4, 2], lambda size: size.rows_at_once <= 4) == BatchSize(4, False, 1)
    assert largest(found, [12, 8, 4, 2], lambda size: size.gradient_checkpointing) == BatchSize(8, True, 1)
    assert largest(found, [12, 8, 4, 2], lambda size: False) is None


def test_onlookers_and_both_answers_of_a_pair_are_tried_too() -> None:
    """Each sees as many rows as it will in training; gradients are left to nobody."""
    model, onlooker = model_of("tiny"), model_of("tiny")
    seen: list[tuple[int, ...]] = []
    for each in (model, onlooker):
        each.register_forward_pre_hook(
            lambda module, args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
        )
    forward_and_backward(model, 3, LOAD)
    forward_and_backward(model, 3, replace(LOAD, pair=True), [onlooker])
    assert seen == [(3, 64), (6, 64), (6, 64)]
    assert all(parameter.grad is None for each in (model, onlooker) for parameter in each.parameters())


def test_a_gpu_is_asked_and_a_cpu_is_not() -> None:
    model, found = model_of("tiny"), BatchSize(8, False, 1)
    if not torch.cuda.is_available():
        assert tried_out(model, found, LOAD, [8, 4, 2, 1]) is found
        return
    model.to("cuda")  # type: ignore[arg-type]
    state = torch.cuda.get_rng_state()
    assert tried_out(model, found, LOAD, [8, 4, 2, 1]).rows_at_once == 8
    huge = replace(found, rows_at_once=1 << 24)
    assert tried_out(model, huge, LOAD, [1 << 24, 8, 4]).rows_at_once == 8
    seen = model_of("tiny")
    assert tried_out(model, found, LOAD, [8, 4, 2, 1], [seen]).rows_at_once == 8
    assert next(seen.parameters()).device.type == "cuda"
    with pytest.raises(StageFailed, match=r"not the memory for a single row.*End what else holds it"):
        tried_out(model, huge, LOAD, [1 << 24])
    assert (torch.cuda.get_rng_state() == state).all() and all(p.grad is None for p in model.parameters())
