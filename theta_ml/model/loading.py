"""A saved model, Theta or any causal language model of the library, and its tokenizer."""

from pathlib import Path

import torch
import transformers.utils.logging
from transformers import AutoModelForCausalLM, PreTrainedModel

import theta_ml.model  # noqa: F401  Auto classes know Theta from here on
from theta_ml.corpus.tokenizer import ChatTokenizer


def load(model_dir: Path, device: str | None = None) -> tuple[PreTrainedModel, ChatTokenizer]:
    """Model, in float32 and ready to predict, and tokenizer; on the GPU where there is one.

    Raises FileNotFoundError where `model_dir` holds no model.
    """
    if not (model_dir / "config.json").exists():
        raise FileNotFoundError(f"no model at {model_dir}; `theta stage train` makes one")
    transformers.utils.logging.disable_progress_bar()  # one bar a file of weights: noise in a task's log
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    model.to(torch.device(device)).eval()  # type: ignore[arg-type]  # the library's annotation of `to` is wrong
    return model, ChatTokenizer.load(model_dir)


def context_length(model: PreTrainedModel) -> int:
    """Most tokens that the model reads at once. Raises ValueError where its configuration does not say."""
    length = getattr(model.config, "max_position_embeddings", None)  # GPT-2's n_positions answers to this name too
    if not isinstance(length, int):
        raise ValueError(
            f"a {model.config.model_type} configuration has no max_position_embeddings, so nobody knows how much the "
            f"model may read: choose a base model with positions, for example gpt2 or a llama"
        )
    return length
