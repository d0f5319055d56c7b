"""In a process of its own: what a training step really holds, in bytes, beside what it held before the model."""

import json
import resource
import sys

import torch

from tests.training.small import model_of
from theta_ml.training.hardware import has_bfloat16
from theta_ml.training.resources import PROCESS_BYTES, Load, estimate, forward_arguments


def resident() -> int:
    """Most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    kind, rows, load = sys.argv[1], int(sys.argv[2]), Load(**json.loads(sys.argv[3]))
    step(model_of("tiny"), 1, Load(64))  # what is loaded and allocated once
    before = resident()
    model = model_of(kind)
    step(model, rows, load)
    measured = resident() - before
    print(json.dumps({"measured": measured, "estimated": estimate(model, load).of(rows) - PROCESS_BYTES}))


def step(model: torch.nn.Module, rows: int, load: Load) -> None:
    """Two of them: gradients and moments of the first are there in the second."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    if load.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            loss = model.train()(**forward_arguments(model, rows, load)).loss
        loss.backward()
        optimizer.step()


main()
