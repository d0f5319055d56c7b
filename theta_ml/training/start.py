"""Where a training starts from: the champion's weights, or random ones."""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers.utils.logging

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.store import Store
from theta_ml.training.presets import Preset


def attention() -> str:
    """Implementation for this machine: on a CPU, and with rows this short, eager is a tenth faster than SDPA."""
    return "sdpa" if torch.cuda.is_available() else "eager"


@dataclass(frozen=True)
class Start:
    """A model before its first step."""

    model: ThetaForCausalLM
    name: str
    """`scratch`, or `champion v3`."""
    peak: float
    """Learning rate that the preset has for such a start."""


def start(
    preset: Preset, champion: Champion | None, corpus: PackedCorpus, folder: Path, seed: int, store: Store
) -> Start:
    """The champion where it fits preset and tokenizer, else random weights. `folder` holds the packed corpus.

    Raises ArtifactMissing where the champion's files are gone.
    """
    transformers.utils.logging.disable_progress_bar()  # one bar a file of weights: noise in a task's log
    torch.manual_seed(seed)
    if champion and _fits(preset, champion, corpus, store):
        path = store.open(champion.uri).path / "model"
        model = ThetaForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation=attention(), local_files_only=True
        )
        return Start(model, f"champion v{champion.version}", preset.hyper.rate_champion)
    tokenizer = ChatTokenizer.load(folder / "tokenizer")
    shape = preset.shape.config(tokenizer, corpus.max_length) | {"attn_implementation": attention()}
    model = ThetaForCausalLM(ThetaConfig(**shape))
    return Start(model, "scratch", preset.hyper.rate_scratch)


def _fits(preset: Preset, champion: Champion, corpus: PackedCorpus, store: Store) -> bool:
    artifact = store.open(champion.uri)
    if artifact.document["value"]["preset"] != preset.name:
        return False
    return ChatTokenizer.load(artifact.path / "model").key() == corpus.tokenizer_key
