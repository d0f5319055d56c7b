"""State of the random number generators, which decide what dropout drops."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """Of torch, numpy and Python, as tensors by name."""

    tensors: dict[str, Tensor]

    @classmethod
    def now(cls, device: torch.device) -> "RandomState":
        """Without waiting for the device."""
        _, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
        tensors = {
            "cpu": torch.get_rng_state(),
            "numpy": torch.from_numpy(np.asarray(words, np.int64)),
            "numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
            "python": torch.tensor(random.getstate()[1], dtype=torch.int64),
        }
        if device.type == "cuda":
            tensors["cuda"] = torch.cuda.get_rng_state(device)
        return cls(tensors)

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.tensors["cpu"])
        position, has_gauss, gauss = self.tensors["numpy_rest"].tolist()
        words: Any = self.tensors["numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", words, int(position), int(has_gauss), gauss))
        random.setstate((3, tuple(self.tensors["python"].tolist()), None))
        if device.type == "cuda" and "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["cuda"], device)
