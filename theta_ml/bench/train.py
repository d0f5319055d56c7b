"""`theta bench train`: useful tokens a second of our training, against TRL's SFTTrainer on the same model and data.

Both train the preset's ThetaForCausalLM on the pieces of the same packed rows of real conversations, in bf16 where the
hardware has it, with AdamW, and with loss on what the assistant says. Padding is not counted. A first round finds the
best of what TRL can do; then this, its packed batch 8 and ours take turns. Each training is a process of its own.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from theta_ml.bench import row
from theta_ml.bench.landing import own_folder
from theta_ml.bench.train_corpus import pack_corpus
from theta_ml.bench.train_loop import TECHNIQUES
from theta_ml.bench.train_work import PEER_LAYOUTS, Job

REPEATS = 3
MAX_LENGTH = 512
WIDE = 16_384
"""Vocabulary of a second, wider model on the CPU: 4.5 M parameters, as `base` has tokens."""
FASTER, FASTER_THAN_PACKED = 4.0, 8.0
"""Targets on a CPU: times the best of TRL, and times its packed batch 8."""
FASTER_GPU, GPU_TOKENS, GPU_SHARE = 1.3, 600_000.0, 0.40
"""Targets on an H200: times the best of TRL, tokens a second, and share of the peak."""
FIRST_STEP_SECONDS = 20.0
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Floating-point operations a second in bf16, dense, by NVIDIA's data sheets."""
PACKED = "packed, batch 8"
Measured = dict[str, float]


def bench_train() -> list[dict[str, Any]]:
    """Rows: speed against TRL, each of TRL's ways, each of our techniques, time to the first step, memory."""
    with own_folder() as folder:
        job = _job(folder)
        quick = replace(job, contender="trl", warm_seconds=job.warm_seconds / 2, seconds=job.seconds / 2)
        peers = [replace(quick, layout=layout, compiled=compiled) for layout in PEER_LAYOUTS
                 for compiled in (False, True)]  # fmt: skip
        first = {_name(peer): _tried(peer) for peer in peers}
        best = max(peers, key=lambda peer: first[_name(peer)]["tokens_per_second"])
        packed = max((p for p in peers if p.layout == PACKED), key=lambda p: first[_name(p)]["tokens_per_second"])
        best, packed = (replace(each, warm_seconds=job.warm_seconds, seconds=job.seconds) for each in (best, packed))
        turns = _turns({"ours": job, _name(best): best, _name(packed): packed})
        rows = _speed_rows(turns, _name(best), _name(packed)) + _gpu_rows(job, turns["ours"], turns[_name(best)])
        rows += [row(f"TRL: {name}", peer["tokens_per_second"], "tokens/s") for name, peer in first.items()]
        rows += _technique_rows(job) + _start_rows(turns["ours"]) + _memory_rows(turns, _name(best))
        return rows + ([] if job.preset == "base" else _wide_rows(_job(folder / "wide", WIDE), first))


def _turns(contenders: dict[str, Job]) -> dict[str, list[Measured]]:
    """Several runs of each, one after the other: what else the machine does falls on all of them."""
    _measure(contenders["ours"])  # fills the compile cache
    turns: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, each in contenders.items():
            turns[name].append(_measure(each))
    return turns


def _tried(peer: Job) -> Measured:
    """One of the peer's ways; 0 tokens where it does not get through."""
    try:
        return _measure(peer)
    except RuntimeError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return {"tokens_per_second": 0.0}


def _wide_rows(job: Job, first: dict[str, Measured]) -> list[dict[str, Any]]:
    """The same blocks with the vocabulary of a larger model, whose head is then most of the work."""
    eager = [replace(job, contender="trl", layout=layout, compiled=False) for layout in PEER_LAYOUTS]
    best = max((p for p in eager if p.layout != PACKED), key=lambda peer: first[_name(peer)]["tokens_per_second"])
    packed = next(peer for peer in eager if peer.layout == PACKED)
    turns = _turns({"ours": job, _name(best): best, _name(packed): packed})
    ours = _median(turns["ours"])
    return [
        row(f"training, vocabulary {WIDE:,}", ours, "tokens/s", peer=f"TRL SFTTrainer: {name}",
            peer_value=_median(turns[name]), ratio=ours / _median(turns[name]))
        for name in (_name(best), _name(packed))
    ]  # fmt: skip


def _job(folder: Path, vocabulary: int | None = None) -> Job:
    """The tiny preset; on a GPU the base preset."""
    import torch

    from theta_ml.corpus.shapes import corpus_shape

    gpu = torch.cuda.is_available()
    preset = "base" if gpu else "tiny"
    (folder / "corpus").mkdir(parents=True)
    vocabulary = vocabulary or corpus_shape(preset).vocabulary
    pack_corpus(folder / "corpus", vocabulary, MAX_LENGTH, every=1 if gpu else 2)
    size = {"rows_per_step": 64, "rows_at_once": 64, "seconds": 20.0, "warm_seconds": 10.0} if gpu else {}
    return Job("theta", str(folder / "corpus"), MAX_LENGTH, preset, home=str(folder), **size)  # type: ignore[arg-type]


def _name(job: Job) -> str:
    return f"{job.layout}, {'compiled' if job.compiled else 'eager'}"


def _measure(job: Job) -> Measured:
    """The contender in a process of its own; beside what it says, the seconds from its start to its first step."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(job.home) / "hf"), "TQDM_DISABLE": "1"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(Path(job.home) / "compile-cache"), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "theta_ml.bench.train_work", json.dumps(asdict(job))]
    started = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{job.contender} {_name(job)} failed:\n{done.stderr[-4000:]}")
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured | {"start_seconds": measured["first_step_at"] - started}


def _median(runs: list[Measured], name: str = "tokens_per_second") -> float:
    return statistics.median(run[name] for run in runs)


def _speed_rows(turns: dict[str, list[Measured]], best: str, packed: str) -> list[dict[str, Any]]:
    import torch

    ours, rows = _median(turns["ours"]), []
    target = FASTER_GPU if torch.cuda.is_available() else FASTER
    for name, peer, wanted in (("training", best, target), ("training, against packed", packed, FASTER_THAN_PACKED)):
        # Of each turn: what else the machine does changes from turn to turn, and both see the same of it.
        ratio = statistics.median(
            a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(turns["ours"], turns[peer], strict=True)
        )
        rows.append(
            row(name, ours, "tokens/s", peer=f"TRL SFTTrainer: {peer}", peer_value=_median(turns[peer]), ratio=ratio,
                target=wanted, ok=ratio >= wanted)
        )  # fmt: skip
    spread = [run["tokens_per_second"] for run in turns["ours"]]
    rows += [
        row("training, slowest turn", min(spread), "tokens/s"),
        row("training, fastest turn", max(spread), "tokens/s"),
    ]
    mine, other = (_median(turns[name], "tokens_per_cpu_second") for name in ("ours", best))
    rows.append(row("training, by processor time", mine, "tokens/s", peer=f"TRL SFTTrainer: {best}", peer_value=other,
                    ratio=mine / other))  # fmt: skip
    return rows


def _technique_rows(job: Job) -> list[dict[str, Any]]:
    """A bare loop with more and more of the techniques, then the trainer; each against the one before."""
    rows: list[dict[str, Any]] = []
    before: tuple[str, float] | None = None
    for count in range(len(TECHNIQUES) + 1):
        chosen = list(TECHNIQUES[:count])
        rate = _measure(replace(job, contender="loop", techniques=chosen))["tokens_per_second"]
        name = f"+ {chosen[-1]}" if chosen else "a bare loop, padded, float32"
        rows.append(_added(name, rate, before))
        before = (name, rate)
    return [*rows, _added("the trainer around it", _measure(job)["tokens_per_second"], before)]


def _added(name: str, rate: float, before: tuple[str, float] | None) -> dict[str, Any]:
    if before is None:
        return row(f"technique: {name}", rate, "tokens/s")
    return row(f"technique: {name}", rate, "tokens/s", peer=before[0], peer_value=before[1], ratio=rate / before[1])


def _start_rows(ours: list[Measured]) -> list[dict[str, Any]]:
    seconds = _median(ours, "start_seconds")
    name = "start of the process to first step, warm cache"
    return [row(name, seconds, "s", target=FIRST_STEP_SECONDS, ok=seconds <= FIRST_STEP_SECONDS)]


def _memory_rows(turns: dict[str, list[Measured]], best: str) -> list[dict[str, Any]]:
    ours, peer = (_median(turns[name], "peak_bytes") / 2**20 for name in ("ours", best))
    estimated = _median(turns["ours"], "estimated_bytes") / 2**20
    return [
        row("peak memory", ours, "MiB", peer=f"TRL SFTTrainer: {best}", peer_value=peer, ratio=ours / peer),
        row("peak memory, estimated before", estimated, "MiB", peer="measured", peer_value=ours,
            ratio=estimated / ours),
    ]  # fmt: skip


def _gpu_rows(job: Job, ours: list[Measured], peer: list[Measured]) -> list[dict[str, Any]]:
    """Share of the peak, and end to end; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    rate, name = _median(ours), torch.cuda.get_device_name()
    peak = next((peak for kind, peak in PEAKS.items() if kind in name), None)
    rows = [row("training, tokens", rate, "tokens/s", target=GPU_TOKENS, ok=rate >= GPU_TOKENS)]
    if peak:
        share = rate * _median(ours, "flops_per_token") / peak
        rows.append(row(f"training, share of {peak:.3g} FLOP/s", share, "share", target=GPU_SHARE,
                        ok=share >= GPU_SHARE))  # fmt: skip
    whole, other = (_median(runs, "whole_tokens_per_second") for runs in (ours, peer))
    rows.append(row("end to end: load, compile, train, save", whole, "tokens/s", peer="TRL SFTTrainer",
                    peer_value=other, ratio=whole / other))  # fmt: skip
    return rows
