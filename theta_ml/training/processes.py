"""How many processes train together."""

import torch

from theta_ml.settings import Settings


def process_count(settings: Settings) -> int:
    """`THETA_TRAIN_PROCESSES`, else one for each GPU that this process may see, else one."""
    return settings.train_processes or max(1, torch.cuda.device_count())
