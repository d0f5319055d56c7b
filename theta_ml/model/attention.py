"""Which attention a training uses."""

import torch
from transformers import PreTrainedConfig

from theta_ml.model import ThetaConfig


def training_attention(config: PreTrainedConfig, device: torch.device, compiled: bool) -> str:
    """An `attn_implementation`: the fastest that keeps packed documents apart on this device.

    On a processor that is eager attention with a float mask, 10 to 30 % faster than SDPA with rows of 256 and 512
    tokens, compiled or not (docs/LOG.md). On a GPU flex attention passes over the blocks of the mask that are empty; it
    has to be compiled, and only Theta makes that mask without breaking the graph. Elsewhere SDPA.
    """
    if device.type == "cpu":
        return "eager"
    return "flex_attention" if device.type == "cuda" and compiled and isinstance(config, ThetaConfig) else "sdpa"
