"""Adapters around a model, and the plain model back."""

import warnings
from typing import cast

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from theta_ml.training.recipe import Adapters


def adapted(model: PreTrainedModel, adapters: Adapters, new_tokens: list[int] | None = None) -> PreTrainedModel:
    """`model` with adapters beside each linear layer of attention and MLP; only they are trained, and the embeddings of
    `new_tokens`, which nothing has taught yet."""
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapters.rank,
        lora_alpha=cast(int, adapters.alpha),  # the library multiplies by it: a fraction does as well
        lora_dropout=adapters.dropout,
        target_modules="all-linear",  # but for the head
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's weights are transposed
        trainable_token_indices=new_tokens or None,
    )
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that transformers 5 has given another name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return cast(PreTrainedModel, get_peft_model(model, config))


def merged(model: nn.Module) -> PreTrainedModel:
    """The plain model that is saved: adapters added to the weights, and its cache turned on again."""
    plain = cast(nn.Module, model.merge_and_unload()) if isinstance(model, PeftModel) else model
    assert isinstance(plain, PreTrainedModel)
    plain.config.use_cache = True
    return plain
