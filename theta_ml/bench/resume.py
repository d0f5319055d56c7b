"""`theta bench resume`: a training that is killed at any moment ends as one that was not.

Real conversations, a small model, float32 on the CPU. Each training is a process; what kills it is SIGKILL.
"""

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.bench import row
from theta_ml.bench.landing import own_folder

if TYPE_CHECKING:
    from theta_ml.bench.train_corpus import BenchCorpus
    from theta_ml.training.fit import Fit

KILLS = 20
TARGET = 1e-4
"""Largest difference of the loss curve, in nats."""
VOCABULARY, MAX_LENGTH, EVERY = 1024, 128, 200
"""Of the corpus: the size of its tokenizer, tokens of a row, and how many conversations one is taken of."""
STEPS = 40
LOOK_SECONDS = 0.002
STOPS = (5, 37)
"""Batches after which a training is asked to end, in the middle of a step: SIGTERM leaves it time for a checkpoint."""


@dataclass(frozen=True)
class Ended:
    """What a training came to."""

    curve: list[tuple[int, str, float]]
    """(step, which loss, nats)."""
    weights: float
    """A sum over them all, in float64."""
    resumed_from: int | None

    @property
    def final(self) -> float:
        return self.curve[-1][2]


@dataclass
class Watched:
    """Most folders of a kind at once on the disk."""

    most: dict[str, int] = field(default_factory=lambda: {"step": 0, "best": 0})

    def look(self, folder: Path) -> None:
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        for kind, most in self.most.items():
            self.most[kind] = max(most, sum(name.startswith(f"{kind}-") for name in names))


def bench_resume() -> list[dict[str, Any]]:
    """Rows: how far curve and final loss are from those of an undisturbed training, and what lies on the disk."""
    from theta_ml.bench.train_corpus import pack_corpus

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["theta_ml.training.fit"])  # the libraries are loaded once, not with each start
    chance, watched = random.Random(1), Watched()  # noqa: S311
    with own_folder() as folder:
        (folder / "corpus").mkdir()
        corpus = pack_corpus(folder / "corpus", VOCABULARY, MAX_LENGTH, EVERY)
        warm = _end(context, corpus, folder / "warm", watched)  # loads the libraries too
        began = time.perf_counter()
        calm = _end(context, corpus, folder / "calm", watched)
        seconds = time.perf_counter() - began
        stopped = [_stop_and_end(context, corpus, folder / f"stop-{batches}", batches, watched) for batches in STOPS]
        killed = []
        for number in range(KILLS):
            where = folder / f"kill-{number}"
            _kill(context, corpus, where, chance.uniform(0.02, 0.98) * seconds, watched)
            killed.append(_end(context, corpus, where, watched))
    return [*_difference_rows(calm, warm, stopped, killed), *_disk_rows(watched)]


def _difference_rows(calm: Ended, warm: Ended, stopped: list[Ended], killed: list[Ended]) -> list[dict[str, Any]]:
    same = sum(each.final == calm.final and each.weights == calm.weights for each in killed)
    resumed = sum(each.resumed_from is not None for each in killed)
    return [
        _most("loss curve, two undisturbed trainings", [_apart(warm, calm)]),
        _most("loss curve, asked to end within a step", [_apart(each, calm) for each in stopped]),
        _most(f"loss curve, {KILLS} x kill -9", [_apart(each, calm) for each in killed]),
        _most(f"final loss, {KILLS} x kill -9", [abs(each.final - calm.final) for each in killed]),
        row("same final loss and weights", same, "trainings", target=KILLS, ok=same == KILLS),
        row("killed after their first checkpoint", resumed, "trainings"),
    ]


def _most(name: str, differences: list[float]) -> dict[str, Any]:
    return row(name, max(differences), "nats", target=TARGET, ok=max(differences) < TARGET)


def _disk_rows(watched: Watched) -> list[dict[str, Any]]:
    from theta_ml.training.checkpoints import KEPT

    allowed = KEPT + 1  # the new one is whole before the oldest goes
    names = {"step": "checkpoints at once, most", "best": "sets of best weights at once, most"}
    return [
        row(names[kind], most, "", target=allowed, ok=most <= allowed) for kind, most in sorted(watched.most.items())
    ]


def _apart(one: Ended, other: Ended) -> float:
    """Largest difference; infinite where a point is missing."""
    if [point[:2] for point in one.curve] != [point[:2] for point in other.curve]:
        return float("inf")
    return max(abs(a[2] - b[2]) for a, b in zip(one.curve, other.curve, strict=True))


def _kill(
    context: ForkServerContext, corpus: "BenchCorpus", folder: Path, after_seconds: float, watched: Watched
) -> None:
    with _training(context, corpus, folder, None) as (process, _):
        _watch(process, folder, watched, time.perf_counter() + after_seconds)
        process.kill()


def _stop_and_end(
    context: ForkServerContext, corpus: "BenchCorpus", folder: Path, batches: int, watched: Watched
) -> Ended:
    with _training(context, corpus, folder, batches) as (process, _):
        _watch(process, folder, watched)
    return _end(context, corpus, folder, watched)


def _end(context: ForkServerContext, corpus: "BenchCorpus", folder: Path, watched: Watched) -> Ended:
    """Trains to the end, from where an earlier attempt was."""
    with _training(context, corpus, folder, None) as (process, result):
        _watch(process, folder, watched)
        if process.exitcode or not result.poll():
            raise RuntimeError(f"a training ended with {process.exitcode}; what it said is above")
        ended: Ended = result.recv()
    return ended


@contextmanager
def _training(
    context: ForkServerContext, corpus: "BenchCorpus", folder: Path, stop_after: int | None
) -> Iterator[tuple[Any, Connection]]:
    result, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(corpus, folder, stop_after, theirs))
    process.start()
    theirs.close()
    try:
        yield process, result
    finally:
        process.join()


def _watch(process: Any, folder: Path, watched: Watched, until: float = float("inf")) -> None:
    while process.is_alive() and time.perf_counter() < until:
        watched.look(folder)
        time.sleep(LOOK_SECONDS)
    watched.look(folder)


def _train(corpus: "BenchCorpus", folder: Path, stop_after: int | None, result: Connection) -> None:
    """In a process of its own."""
    import torch

    from theta_ml.training.fit import fit
    from theta_ml.training.stop import Stopped

    torch.set_num_threads(1)
    work = _work(corpus, folder)
    if stop_after is not None:
        work.callbacks.append(_stopper(work.stop, stop_after))
    try:
        fitted = fit(work)
    except Stopped:
        return
    names = ("train_loss", "validation_loss")
    curve = [(line["step"], name, line[name]) for line in fitted.history for name in names if name in line]
    weights = sum(float(parameter.detach().double().sum()) for parameter in work.model.parameters())
    result.send(Ended(curve, weights, fitted.resumed_from))


def _work(corpus: "BenchCorpus", folder: Path) -> "Fit":
    import torch

    from theta_ml.model import ThetaConfig, ThetaForCausalLM
    from theta_ml.training.fit import Fit
    from theta_ml.training.presets import Hyper, ModelShape

    torch.manual_seed(1)
    shape = ModelShape(hidden_size=64, layers=2, heads=2, intermediate_size=176)
    model = ThetaForCausalLM(ThetaConfig(**shape.config(corpus.tokenizer(), corpus.max_length)))
    hyper = Hyper(
        rows_per_step=8,
        rows_at_once=4,
        epochs=100,
        max_steps=STEPS,
        rate_scratch=3e-3,
        rate_champion=3e-3,
        validation_rows=8,
        validate_steps=10,
        checkpoint_seconds=0.1,
    )
    train, validation = corpus.rows("train"), corpus.rows("validation")
    return Fit(model, hyper, train, validation, peak=hyper.rate_scratch, seed=1, folder=folder, bfloat16=False)


def _stopper(stop: threading.Event, batches: int) -> Any:
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        """Asks the training to end after so many batches."""

        def __init__(self) -> None:
            self.left = batches

        def hear(self, *_: Any, **__: Any) -> None:
            self.left -= 1
            if self.left == 0:
                stop.set()

        on_substep_end = on_step_end = hear

    return Stopper()
