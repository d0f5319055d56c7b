"""What a training will need, and what there is.

Memory is not guessed from a formula: a step of the model is traced with tensors that have a shape and no content, and
what would be alive at once is counted. That takes a fraction of a second, and follows whatever the model's code does:
its size and kind, adapters, gradient checkpointing, logits only where there is loss.
"""

import copy
import inspect
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from theta_ml.corpus.rows import Rows
from theta_ml.settings import Settings
from theta_ml.training.hardware import has_bfloat16
from theta_ml.training.processes import process_count

if TYPE_CHECKING:
    from theta_ml.training.methods.preference import PairRows

PROCESS_BYTES = 700 << 20
"""Of Python with torch and transformers loaded; on a GPU of a CUDA context and its libraries' workspaces."""
SLACK = 1.1
"""For what the allocator cannot use between its blocks."""
SAMPLE = 2048
"""Rows that are looked at for the share of their tokens that bear loss."""
CGROUP_LIMIT, CGROUP_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class Load:
    """What a training puts into memory beside the number of rows."""

    length: int
    """Tokens in a row."""
    loss_share: float = 1.0
    """Largest share of a row's tokens that bear loss."""
    gradient_checkpointing: bool = False
    """Activations inside the blocks are computed again rather than kept."""
    processes: int = 1
    """On all nodes."""
    nodes: int = 1
    sharded: bool = False
    """Weights, gradients and moments are spread over the processes (FSDP)."""
    pair: bool = False
    """A row is two answers to be compared, beside what a frozen model says of them (preference)."""

    @classmethod
    def of(cls, rows: "Rows | PairRows", settings: Settings) -> "Load":
        """Of these rows, on this machine and those that train with it."""
        count, pair = process_count(settings) * settings.train_nodes, not isinstance(rows, Rows)
        share = _loss_share(rows) if isinstance(rows, Rows) else 1.0
        sharded = settings.train_sharding == "full" and count > 1
        return cls(rows.max_length, share, processes=count, nodes=settings.train_nodes, sharded=sharded, pair=pair)


@dataclass(frozen=True)
class Memory:
    """Most bytes that one process holds, as a line over the rows it computes at once."""

    fixed: int
    row: int

    def of(self, rows: int) -> int:
        return self.fixed + rows * self.row

    def rows_in(self, room: int) -> int:
        """Rows that fit in `room` bytes."""
        return max(0, (room - self.fixed) // max(1, self.row))


def _loss_share(rows: Rows) -> float:
    """Largest share of a row's tokens that bear loss, among a sample of the rows."""
    chosen = np.sort(np.random.default_rng(0).permutation(rows.count)[:SAMPLE])
    return float(rows.take(chosen).learned.mean(axis=1).max()) if len(chosen) else 1.0


def estimate(model: PreTrainedModel, load: Load, frozen: Sequence[PreTrainedModel] = ()) -> Memory:
    """Peak of a training step of `model`; `frozen` are models that only look on (a teacher, a reference).

    The trace is of eager code: a compiled model stays under it.
    """
    fewer, more = (_step_bytes(model, load, frozen, rows) for rows in (2, 4))
    row = (more - fewer) / 2
    fixed = _state_bytes(model, load) + sum(_bytes(f.parameters()) for f in frozen) + max(0.0, fewer - 2 * row)
    return Memory(fixed=PROCESS_BYTES + int(SLACK * fixed), row=int(SLACK * row))


def parameters(model: nn.Module) -> int:
    """Tied weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def disk_bytes(model: PreTrainedModel) -> int:
    """Most that a training's files take: three whole checkpoints for a moment, two sets of best weights, the result."""
    moments = 2 * _bytes(p for p in model.parameters() if p.requires_grad)
    return 6 * _bytes(model.parameters()) + 3 * moments


def available_memory(device: torch.device) -> int:
    """Bytes. Of a GPU all its memory: another training may hold some of it now, but none once ours is booked."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    free = int(psutil.virtual_memory().available)
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return free if limit == "max" else min(free, int(limit) - int(CGROUP_USED.read_text()))


def room_for_one(device: torch.device, load: Load) -> int:
    """Bytes for each of the processes of this machine: a GPU of its own, or its part of the memory."""
    available = available_memory(device)
    return available if device.type == "cuda" else available // (load.processes // load.nodes)


def free_disk(folder: Path) -> int:
    """Bytes on the disk of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free


def forward_arguments(model: nn.Module, rows: int, load: Load) -> dict[str, Any]:
    """A batch of the largest kind that the training will see, as the collator makes them; both answers of pairs."""
    rows = 2 * rows if load.pair else rows
    shape = (rows, load.length)
    batch = {name: torch.zeros(shape, dtype=torch.int64) for name in ("input_ids", "position_ids", "labels")}
    if takes(model, "loss_at"):
        batch["loss_at"] = torch.zeros(max(1, round(rows * (load.length - 1) * load.loss_share)), dtype=torch.int64)
    return batch


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward has an argument of this name, under the adapters where there are any."""
    unwrap = getattr(model, "get_base_model", None)  # PEFT's, whose import takes seconds
    inner = unwrap() if unwrap else model
    return argument in inspect.signature(inner.forward).parameters


def _state_bytes(model: nn.Module, load: Load) -> float:
    """Weights, gradients and AdamW's two moments."""
    weights, learned = _bytes(model.parameters()), _bytes(p for p in model.parameters() if p.requires_grad)
    if load.sharded:
        # All weights and gradients of a block, and of the next that is on its way, are whole for a moment.
        blocks = sorted((_bytes(b.parameters()) for b in _blocks(model)), reverse=True)
        return (weights + 3 * learned) / load.processes + 2 * sum(blocks[:2])
    buckets = learned if load.processes > 1 else 0  # in which DDP sends gradients
    return weights + 3 * learned + buckets


def _blocks(model: nn.Module) -> list[nn.Module]:
    names = set(getattr(model, "_no_split_modules", None) or [])
    return [module for module in model.modules() if type(module).__name__ in names] or [model]


def _bytes(tensors: Any) -> int:
    return sum(int(tensor.nbytes) for tensor in tensors)


def _step_bytes(model: PreTrainedModel, load: Load, frozen: Sequence[PreTrainedModel], rows: int) -> int:
    """Most bytes that forward and backward hold beside weights and accumulated gradients."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        learner, watchers = _without_content(model).train(), [_without_content(f) for f in frozen]
        if load.gradient_checkpointing:
            learner.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        for parameter in learner.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        batch = forward_arguments(learner, rows, load)
        with _LiveBytes() as live, torch.autocast("cpu", torch.bfloat16, enabled=_in_bfloat16()):
            trial_loss(learner, watchers, batch).backward()
    return live.peak


def trial_loss(learner: PreTrainedModel, watchers: Sequence[PreTrainedModel], batch: dict[str, Any]) -> Tensor:
    """A scalar that holds what the methods' losses hold: beside onlookers, both sides' logits of every token."""
    if not watchers:
        loss: Tensor = learner(**batch).loss
        return loss
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        seen = [functional.log_softmax(watcher(**inputs).logits.float(), -1) for watcher in watchers]
    own = functional.log_softmax(learner(**inputs).logits.float(), -1)
    return torch.stack([functional.kl_div(own, other, reduction="sum", log_target=True) for other in seen]).sum()


def _without_content(model: PreTrainedModel) -> PreTrainedModel:
    """The same model over tensors that have no content, inside a FakeTensorMode; tied weights stay tied."""
    real = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): _hollow(tensor) for tensor in real})
    if twin.config._attn_implementation == "flex_attention":
        twin.config._attn_implementation = "sdpa"  # flex is not itself until it is compiled; sdpa holds as much
    return twin


def _hollow(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _in_bfloat16() -> bool:
    return has_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that are made in its block, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._alive = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self._alive -= size
