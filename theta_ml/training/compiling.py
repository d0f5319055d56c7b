"""Whether to compile a model for its training, and how; and what is done on a machine without a compiler."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

COLD_SECONDS = {"cpu": 40.0, "cuda": 60.0}
"""That compiling takes, for training and for validation, where the kept cache holds nothing of it."""
EAGER_FLOPS = {"cpu": 1e11, "cuda": 6e13}
"""Sustained without compiling. High rather than low: too little is compiled rather than too much."""
SAVED = 0.25
"""Share of the eager time that compiling saves, at least."""


def pays(parameters: int, tokens: int, device: str) -> bool:
    """Whether compiling takes less time than it saves in a training on so many tokens.

    What the cache holds does not count: an attempt that resumes another must decide as that one did. A token takes 6
    operations a parameter (Kaplan et al. 2020, arXiv:2001.08361).
    """
    eager = 6 * parameters * tokens / EAGER_FLOPS[device]
    return SAVED * eager > COLD_SECONDS[device]


def compile_backbone(model: PreTrainedModel, log: Callable[[str], None] = lambda message: None) -> bool:
    """Compiles the backbone in place, at its first call; whether it does: without a compiler the model stays as it is.

    Not the head: how many tokens bear loss, and so its shape, varies.
    """
    missing = missing_compiler()
    if missing:
        log(f"{missing}: training goes on without compiling, the same but slower")
        return False
    backbone: nn.Module = model.base_model
    if next(model.parameters()).device.type == "cpu":
        # Dropout draws what it draws without compiling; and Inductor's generator is scalar code, a fifth of a step.
        backbone.compile(options={"fallback_random": True})
    else:
        backbone.compile()
    return True


def missing_compiler() -> str | None:
    """What torch lacks for compiling on this machine, in words; None: nothing."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "no C++ compiler found (install g++, or set CXX to one)"
    if torch.cuda.is_available() and not has_triton():
        return "no Triton found, which compiles for the GPU (pip install triton)"
    return None
