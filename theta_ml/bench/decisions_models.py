"""Trains what `theta bench decisions` needs, once: two child processes, a thread each, at low priority.

What each model made of each conversation is kept in THETA_BENCH_CACHE (default ~/.cache/theta-bench), under a key of
all that made it; the models themselves are not.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import click

from theta_ml.bench import decisions_work
from theta_ml.bench.decisions_work import Job, files, pack_corpora

WORKERS = 2
_NICE = 10


@dataclass(frozen=True)
class Group:
    """Models of one recipe."""

    name: str
    unit: str
    """What they learn from: one of `decisions_work.UNITS`."""
    steps: int
    seeds: Sequence[int]


_CHILD = {
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}


def trained(groups: Sequence[Group]) -> dict[str, list[Path]]:
    """Files of scores of each group's models, by the group's name; what is missing is trained first."""
    folder = kept()
    wanted = {
        group.name: [folder / f"{group.unit}-{group.steps}-{seed}.parquet" for seed in group.seeds] for group in groups
    }
    jobs = [
        Job("", group.unit, group.steps, seed, str(path))
        for group in groups
        for seed, path in zip(group.seeds, wanted[group.name], strict=True)
        if not path.exists()
    ]
    if jobs:
        folder.mkdir(parents=True, exist_ok=True)
        _train(jobs)
    return wanted


def kept() -> Path:
    """Folder of the scores that were made as they would be made now."""
    names = ("VERSION", "VOCABULARY", "MAX_LENGTH", "WIDTH", "LAYERS", "HEADS", "INNER", "LEARNED", "VALIDATION")
    identity: list[object] = [[name, getattr(decisions_work, name)] for name in names]
    for file in files():
        with file.open("rb") as stream:
            identity.append([file.name, hashlib.file_digest(stream, "sha256").hexdigest()])
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    root = Path(os.environ.get("THETA_BENCH_CACHE", "~/.cache/theta-bench")).expanduser()
    return root / f"decisions-{key}"


def _train(jobs: Sequence[Job]) -> None:
    """Raises ClickException with what a child said that failed."""
    click.echo(f"{len(jobs)} models to train, about a minute of a core each; what is done is kept", err=True)
    with TemporaryDirectory(prefix="theta-bench-") as folder:
        corpus = Path(folder) / "corpus"
        pack_corpora(corpus)
        jobs = [replace(job, corpus=str(corpus)) for job in jobs]
        shares = [jobs[number::WORKERS] for number in range(min(WORKERS, len(jobs)))]
        with ThreadPoolExecutor(WORKERS) as workers, click.progressbar(length=len(jobs), file=sys.stderr) as bar:
            for faults in workers.map(lambda share: _run(share, lambda: bar.update(1)), shares):
                if faults:
                    raise click.ClickException(f"training a model failed:\n{faults}")


def _run(jobs: Sequence[Job], done: Callable[[], None]) -> str:
    """One child works them off; `done` hears of each. Returns the end of what it said where it failed."""
    command = [sys.executable, "-m", "theta_ml.bench.decisions_work", json.dumps([asdict(job) for job in jobs])]
    files = {job.output for job in jobs}
    with TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            ["nice", "-n", str(_NICE), *command],
            env=os.environ | _CHILD,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() in files:  # the trainer prints lines of its own
                done()
        if not child.wait():
            return ""
        errors.seek(0)
        return errors.read()[-2000:]
