"""FSDP: each process holds a part of the model, of its gradients and of the optimizer's moments."""

from typing import Any

from accelerate import Accelerator, DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin
from transformers import TrainingArguments


def sharding_arguments(gradient_checkpointing: bool) -> dict[str, Any]:
    """For TrainingArguments: FSDP2, split at the model's own blocks, with a checkpointing of its own."""
    return {"fsdp": True, "fsdp_config": {"version": 2, "activation_checkpointing": gradient_checkpointing}}


def shard_on_cpu(accelerator: Accelerator, arguments: TrainingArguments) -> None:
    """Accelerate passes FSDP over where there is no GPU, though torch has it on gloo too: this turns it on."""
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP
