"""Real, tiny models and snapshots for the stages that score."""

import json
from itertools import count
from typing import Any

import numpy as np
import torch

from tests.registry.pipeline import Pipeline
from theta_ml.corpus.catalog import Dataset, load_catalog
from theta_ml.corpus.encoder import Encoder
from theta_ml.corpus.prepare import DROP_OF, DROPS
from theta_ml.corpus.sources import read
from theta_ml.corpus.tokenizer import ChatTokenizer, Message
from theta_ml.corpus.unit import Terms, find_or_pack
from theta_ml.landing.parquet import SCHEMA, file_name, split_of
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.model.modeling_theta import IGNORED
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


def taught(pipeline: Pipeline, tokenizer: ChatTokenizer, conversations: list[list[Message]], steps: int) -> str:
    """A training artifact of a model that learned these conversations, by heart where the steps are many."""
    uri = model(pipeline, tokenizer, 1, recipe=f"taught {len(conversations)} {steps}")
    folder = Store(pipeline.settings.artifacts, pipeline.settings.home).open(uri).path / "model"
    learner = ThetaForCausalLM.from_pretrained(folder)
    batch = [_labelled(tokenizer, messages) for messages in conversations]
    width = max(len(tokens) for tokens, _ in batch)
    tokens = torch.tensor([row + [tokenizer.pad] * (width - len(row)) for row, _ in batch])
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for _, row in batch])
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        learner(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
    learner.save_pretrained(folder)
    return uri


def _labelled(tokenizer: ChatTokenizer, messages: list[Message]) -> tuple[list[int], list[int]]:
    tokens, labels = [tokenizer.begin], [IGNORED]
    for turn in tokenizer.turns(messages):
        tokens += turn.tokens
        labels += [IGNORED, *(turn.tokens[1:] if turn.learned else [IGNORED] * (len(turn.tokens) - 1))]
    return tokens, labels


def said(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def corpus(pipeline: Pipeline, tokenizer: ChatTokenizer, conversations: list[list[Message]], canaries: bool) -> str:
    """A `prepare` artifact of these conversations, all of them for training, packed as the stage packs them."""
    path = pipeline.settings.home / "conversations.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = (f"c{number}" for number in count() if split_of(f"ours/c{number}") == "train")
    rows = [{"id": name, "messages": messages} for name, messages in zip(ids, conversations, strict=False)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ours = Dataset(id="ours", category="test", licence="MIT", source="file", path=str(path))
    datasets = [ours, *([load_catalog(pipeline.settings).get("canaries")] if canaries else [])]
    terms = Terms(Encoder(tokenizer), 128)
    units = [
        find_or_pack(pipeline.store, each.id, f"{each.id} {len(rows)}", read(each, pipeline.settings), terms)[0]
        for each in datasets
    ]
    used = [{"name": each.unit.name, "key": each.artifact.key, "weight": 1.0} for each in units]
    uri = pipeline.make("prepare", {"units": used}, {"texts": [list(map(dict, each)) for each in conversations]})
    folder = pipeline.store.open(uri).path
    np.save(folder / DROPS, np.zeros(0, DROP_OF))
    tokenizer.save(folder / "tokenizer", 128)
    return uri


def snapshot(pipeline: Pipeline, months: dict[str, int], split: str = "test") -> str:
    rows = {month: [_row(month, number, split) for number in range(most)] for month, most in months.items()}
    return frozen(pipeline, rows)


def frozen(pipeline: Pipeline, months: dict[str, list[dict[str, Any]]]) -> str:
    """A snapshot of these rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    uri = pipeline.make("snapshot", {}, json.loads(json.dumps(months, default=str)))
    folder = pipeline.store.open(uri).path
    for month, rows in months.items():
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / file_name(month))
    return uri


def row(conversation_id: str, messages: list[Any], month: str = "2026-02", **fields: Any) -> dict[str, Any]:
    """A test conversation, as a snapshot holds it."""
    known = {"occurred_at": Month.parse(month).start, "source": "irc", "split": "test", "rating": None, "faults": []}
    return {"conversation_id": conversation_id, "month": month, "messages": messages, **known, **fields}


def _row(month: str, number: int, split: str) -> dict[str, Any]:
    spoken = zip(("user", "assistant") * 2, TEXTS, strict=True)
    messages = [{"role": role, "content": f"{text} {number}"} for role, text in spoken]
    source = ("irc", "help")[number % 2]
    return row(f"{month}/{number}", messages, month, source=source, language=None, topic="files", split=split)
