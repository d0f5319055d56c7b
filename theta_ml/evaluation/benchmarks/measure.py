"""Models on benchmarks: the same items for all of them, one model after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.evaluation.benchmarks.items import Items, draw, files_of, missing, read_items
from theta_ml.evaluation.benchmarks.report import BenchmarkResult, share, standard_error
from theta_ml.evaluation.benchmarks.rows import Doc
from theta_ml.evaluation.benchmarks.tasks import BENCHMARKS, Benchmark
from theta_ml.stage import StageFailed

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.asking import Answers

Progress = Callable[[int, int, str], None]
"""Hears answers had, answers in all, and whose."""
CHOICES = 4


@dataclass(frozen=True)
class Exam:
    """A benchmark and which of its items are asked."""

    benchmark: Benchmark
    items: Items
    asked: list[Doc]

    @property
    def answers(self) -> int:
        """Requests to a model."""
        return len(self.asked) * (1 if self.benchmark.reply_tokens else CHOICES)


def names_of(only: str) -> list[str]:
    """Benchmarks named in `only`, all where it is empty. Raises StageFailed for one that there is not."""
    names = list(dict.fromkeys(filter(None, map(str.strip, only.lower().split(",")))))
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise StageFailed(f"there is no benchmark {', '.join(unknown)}; choose of {', '.join(BENCHMARKS)}")
    return names or list(BENCHMARKS)


def prepare(only: str, folder: Path, limit: int, seed: int, no_sandbox: str) -> tuple[list[Exam], dict[str, str]]:
    """What can be asked, and why the rest cannot. `no_sandbox` says why code is not run; empty: it is.

    Raises StageFailed where a benchmark asked for by name has no file, and BenchmarksAtFault.
    """
    exams, skipped = [], {}
    for name in names_of(only):
        if not files_of(name, folder):
            if only:
                raise StageFailed(f"{name}: {missing(name, folder)}")
            skipped[name] = missing(name, folder)
        elif name == "humaneval" and no_sandbox:
            skipped[name] = no_sandbox
        else:
            items = read_items(name, folder, BENCHMARKS[name].shots)
            exams.append(Exam(BENCHMARKS[name], items, draw(items.asked, limit, seed)))
    return exams, skipped


def measure(exams: Sequence[Exam], models: dict[str, Path], progress: Progress) -> "list[dict[str, Answers]]":
    """Of each model in turn (by who it is), its answers by the benchmark's name."""
    from theta_ml.evaluation.benchmarks.asking import Model, Task, ask

    total, done = len(models) * sum(exam.answers for exam in exams), 0
    answers = []
    for who, folder in models.items():

        def answered(who: str = who) -> None:
            nonlocal done
            done += 1
            progress(done, total, who)

        model = Model(folder, answered)
        answers.append(ask(model, [Task(exam.benchmark, exam.items, exam.asked, model.room) for exam in exams]))
    return answers


def result(exam: Exam, candidate: "Answers", champion: "Answers | None") -> BenchmarkResult:
    theirs = champion.scores if champion else []
    paired = [ours - other for ours, other in zip(candidate.scores, theirs, strict=bool(theirs))]
    return BenchmarkResult(
        name=exam.benchmark.name,
        metric=exam.benchmark.metric,
        value=share(candidate.scores),
        stderr=standard_error(candidate.scores),
        items=len(exam.asked),
        shots=exam.benchmark.shots,
        shots_shown=sum(candidate.shots) / len(candidate.shots),
        cut=candidate.cut,
        chance=exam.benchmark.chance,
        champion_value=share(theirs),
        champion_stderr=standard_error(theirs),
        difference=share(paired),
        difference_stderr=standard_error(paired),
    )
