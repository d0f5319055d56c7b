"""Real, tiny models and snapshots for the stages that score."""

from typing import Any

import torch

from tests.registry.pipeline import Pipeline
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.landing.parquet import SCHEMA, file_name
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.month import Month
from theta_ml.store import Store

TEXTS = ["how do I list files", "type ls and press enter", "my screen is black", "unplug it, then wait a moment – ☕"]


def model(
    pipeline: Pipeline, tokenizer: ChatTokenizer, seed: int, weight: float | None = None, recipe: str = "continue"
) -> str:
    """A training artifact with random weights; all of them `weight` where that is given."""
    torch.manual_seed(seed)
    config = ThetaConfig(
        vocab_size=tokenizer.vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    made = ThetaForCausalLM(config)
    if weight is not None:
        for parameter in made.parameters():
            torch.nn.init.constant_(parameter, weight)
    uri = pipeline.make("train", {"steps": 1, "recipe": recipe, "parameters": 9}, {"seed": seed, "weight": str(weight)})
    folder = Store(pipeline.settings.artifacts, pipeline.settings.home).open(uri).path / "model"
    made.save_pretrained(folder)
    tokenizer.save(folder, 128)
    return uri


def snapshot(pipeline: Pipeline, months: dict[str, int], split: str = "test") -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    uri = pipeline.make("snapshot", {}, {"months": sorted(months.items()), "split": split})
    folder = pipeline.store.open(uri).path
    for month, count in months.items():
        rows = [_row(month, number, split) for number in range(count)]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / file_name(month))
    return uri


def _row(month: str, number: int, split: str) -> dict[str, Any]:
    spoken = zip(("user", "assistant") * 2, TEXTS, strict=True)
    messages = [{"role": role, "content": f"{text} {number}"} for role, text in spoken]
    when = Month.parse(month).start
    known = {
        "occurred_at": when,
        "source": ("irc", "help")[number % 2],
        "language": None,
        "topic": "files",
        "split": split,
    }
    return {"conversation_id": f"{month}/{number}", "month": month, "messages": messages, **known}
