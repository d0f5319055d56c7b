"""Whether to compile a model for its training, and how: the cache that is kept, and what is done without a compiler."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch keeps what it compiled; a setting of its own, read at each compilation."""
COLD_SECONDS = {"cpu": 40.0, "cuda": 60.0}
"""That compiling takes, for training and for validation, with nothing kept from before."""
WARM_SECONDS = {"cpu": 8.0, "cuda": 15.0}
"""With everything kept: graphs are captured again, and found."""
EAGER_FLOPS = {"cpu": 1e11, "cuda": 6e13}
"""Sustained without compiling. High rather than low: too little is compiled rather than too much."""
SAVED = 0.25
"""Share of the eager time that compiling saves, at least."""


def keep_cache(home: Path) -> None:
    """Compiled code of this and later processes is kept under THETA_HOME, unless the environment names a place."""
    os.environ.setdefault(CACHE, str(home / "compile-cache"))


def pays(parameters: int, tokens: int, device: str, warm: bool) -> bool:
    """Whether compiling takes less time than it saves in a training on so many tokens.

    A token takes 6 operations a parameter (Kaplan et al. 2020, arXiv:2001.08361).
    """
    eager = 6 * parameters * tokens / EAGER_FLOPS[device]
    return SAVED * eager > (WARM_SECONDS if warm else COLD_SECONDS)[device]


def is_warm() -> bool:
    """Whether earlier trainings left compiled graphs: of this model, most likely."""
    folder = os.environ.get(CACHE)
    return folder is not None and any((Path(folder) / "fxgraph").glob("*"))


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

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "no C++ compiler found (install g++, or set CXX to one)"
    if torch.cuda.is_available() and not torch.utils._triton.has_triton():
        return "no Triton found, which compiles for the GPU (pip install triton)"
    return None
