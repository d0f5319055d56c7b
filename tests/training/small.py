"""Models small enough for a test."""

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from theta_ml.model import ThetaConfig, ThetaForCausalLM


def model_of(kind: str) -> PreTrainedModel:
    """`tiny`, `theta`, `gpt2` or `adapters`: ThetaForCausalLM with LoRA."""
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=8000, n_embd=256, n_layer=4, n_head=4, n_positions=512))
    shape: dict[str, Any] = {"vocab_size": 8000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    if kind == "tiny":
        shape = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    model = ThetaForCausalLM(ThetaConfig(**shape, num_attention_heads=4, max_position_embeddings=512))
    if kind != "adapters":
        return model
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))  # type: ignore[return-value]
