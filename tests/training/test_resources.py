"""Memory that a training is said to need, against what it was seen to hold."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from tests.training.small import model_of
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.training.presets import BASE
from theta_ml.training.resources import Load, disk_bytes, estimate

TOLERANCE = 0.2
KEPT, AGAIN = Load(512, 0.5), Load(512, 0.5, gradient_checkpointing=True)
CASES = [("theta", KEPT), ("theta", AGAIN), ("gpt2", KEPT), ("gpt2", AGAIN), ("adapters", KEPT)]


def test_the_estimate_is_what_a_step_was_seen_to_hold() -> None:
    """Two steps of four rows: the resident memory at their peak, less that before there was a model."""
    # So that the allocator gives back what is freed: what it keeps is no need of the training's.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    cases = json.dumps([[kind, 4, asdict(load)] for kind, load in CASES])
    command = [sys.executable, "-W", "ignore", "-m", "tests.training.peak", cases]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    seen = [json.loads(line) for line in run.stdout.splitlines()]
    ratios = {
        f"{kind} {load.gradient_checkpointing}": s["measured"] / s["estimated"]
        for (kind, load), s in zip(CASES, seen, strict=True)
    }
    assert all(1 - TOLERANCE < ratio < 1 + TOLERANCE for ratio in ratios.values()), ratios


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("load", [KEPT, AGAIN], ids=["all kept", "checkpointed"])
def test_the_estimate_holds_on_a_gpu(load: Load) -> None:
    from tests.training.peak import step

    model = model_of("theta").to("cuda")  # type: ignore[arg-type]
    torch.cuda.reset_peak_memory_stats()
    step(model, 8, load)
    seen, said = torch.cuda.max_memory_allocated(), estimate(model_of("theta"), load)
    assert 0.6 * (said.of(8) - said.of(0)) < seen < said.of(8)


def test_what_lowers_memory_lowers_the_estimate() -> None:
    model = model_of("theta")
    plain = estimate(model, Load(256))
    assert estimate(model, Load(256, 0.1)).row < plain.row
    assert estimate(model, Load(256, gradient_checkpointing=True)).row < 0.7 * plain.row
    assert estimate(model, Load(256, processes=8, sharded=True)).fixed < plain.fixed
    assert estimate(model, Load(256, pair=True)).row == pytest.approx(2 * plain.row, rel=0.1)
    assert estimate(model, Load(256), [model_of("theta")]).of(8) > plain.of(8)
    assert estimate(model_of("adapters"), Load(256)).fixed < plain.fixed
    assert plain.of(plain.rows_in(2 << 30)) <= 2 << 30 < plain.of(plain.rows_in(2 << 30) + 1)
    assert disk_bytes(model_of("adapters")) < disk_bytes(model)


def test_the_base_preset_fits_a_gpu_of_40_gib() -> None:
    shape = BASE.shape
    with torch.device("meta"):
        model = ThetaForCausalLM(
            ThetaConfig(
                vocab_size=16_384,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
            )
        )
    assert 4 << 30 < estimate(model, Load(512, 0.7)).of(16) < 40 << 30
