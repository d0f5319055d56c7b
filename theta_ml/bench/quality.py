"""`theta bench quality`: bits per byte of our training, against a Llama of the same size trained with TRL.

Both learn from the same pieces of real conversations, as often, with the same learning rates and tokens a step, and are
scored by the same code on conversations that neither saw. Ours keeps the weights that did best on validation
conversations, as it always does; the peer its last. Three seeds each; a training is a process of its own.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from theta_ml.bench import row
from theta_ml.bench.landing import own_folder
from theta_ml.bench.quality_work import Job, Quality
from theta_ml.bench.train_corpus import pack_corpus

SEEDS = (1, 2, 3)
EVERY, EPOCHS, CONVERSATIONS = 88, 5, 200
"""One conversation in so many is learned from, so often, and so many held-out ones are scored: about as much as the
preset `tiny` sees in a month."""
_PEER = "transformers Llama, TRL SFTTrainer"


def bench_quality() -> list[dict[str, Any]]:
    """Rows: bits per byte against the peer's, and what both were given."""
    from theta_ml.corpus.shapes import corpus_shape

    shape = corpus_shape("tiny")
    with own_folder() as folder:
        (folder / "corpus").mkdir()
        pack_corpus(folder / "corpus", shape.vocabulary, shape.max_length, EVERY)
        job = Job(str(folder / "corpus"), shape.max_length, str(folder), 0, EPOCHS, CONVERSATIONS)
        found: dict[str, list[Quality]] = {"theta": [], "trl": []}
        for seed in SEEDS:
            for who, models in found.items():
                models.append(_measure(who, job, seed))
    return _rows(found["theta"], found["trl"])


def _measure(who: str, job: Job, seed: int) -> Quality:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(job.home) / "hf"), "TQDM_DISABLE": "1"}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    arguments = [who, json.dumps(asdict(job) | {"seed": seed})]
    command = [sys.executable, "-m", "theta_ml.bench.quality_work", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"training {who} with seed {seed} failed:\n{done.stderr[-4000:]}")
    return Quality(**json.loads(done.stdout.splitlines()[-1]))


def _rows(ours: list[Quality], peers: list[Quality]) -> list[dict[str, Any]]:
    assert {model.tokens for model in ours} == {model.tokens for model in peers}, "the peer was given other work"
    mine, other = ([model.bits_per_byte for model in models] for models in (ours, peers))
    ratio = statistics.mean(mine) / statistics.mean(other)
    return [
        row(f"bits per byte, mean of {len(SEEDS)} seeds", statistics.mean(mine), "bits/byte", peer=_PEER,
            peer_value=statistics.mean(other), ratio=ratio, target=1.0, ok=ratio <= 1.0),
        *(_against(f"bits per byte, {name} seed", of(mine), "bits/byte", of(other))
          for name, of in (("best", min), ("worst", max))),
        _against("parameters", ours[0].parameters, "", peers[0].parameters),
        _against("tokens learned from", ours[0].tokens, "tokens", peers[0].tokens),
        _against("optimizer steps", ours[0].steps, "steps", peers[0].steps),
    ]  # fmt: skip


def _against(name: str, mine: float, unit: str, other: float) -> dict[str, Any]:
    return row(name, mine, unit, peer=_PEER, peer_value=other, ratio=mine / other)
