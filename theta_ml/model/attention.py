"""Which attention a training uses."""

import torch
from transformers import PreTrainedModel

from theta_ml.model import ThetaConfig


def training_attention(model: PreTrainedModel, device: torch.device, compiled: bool) -> str:
    """Name for `model.set_attn_implementation`: the fastest that keeps packed documents apart on this device.

    On a processor that is eager attention with a float mask, 10 to 30 % faster than SDPA with rows of 256 and 512
    tokens, compiled or not (docs/LOG.md). On a GPU flex attention skips the blocks of the mask that are empty; it
    has to be compiled, and only Theta makes that mask without breaking the graph. Elsewhere SDPA.
    """
    if device.type == "cpu":
        return "eager"
    makes_block_masks = isinstance(model.config, ThetaConfig) and compiled and not model.is_activation_checkpointing
    return "flex_attention" if makes_block_masks and device.type == "cuda" else "sdpa"
