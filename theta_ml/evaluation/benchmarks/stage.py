"""Stage `benchmark`: candidate and champion on MMLU, GPQA, MATH, HumanEval and GSM8K, on the same items.

The files lie in THETA_BENCHMARKS or below, named for their benchmark: JSON objects, one a line, plain or gzipped.

    mmlu*.jsonl       subject, question, choice0 to choice3 (or choices), answer (0-3 or A-D), split (dev or test)
    gpqa*.jsonl       question, correct_answer, incorrect_answers (three)
    math*.jsonl       problem, solution (its last \\boxed{…} is the answer), split (train or test) where known
    humaneval*.jsonl  task_id, prompt, entry_point, test
    gsm8k*.jsonl      question, answer (the number after ####), split (train or test) where known

Without `split`, the part is the one in the file's name; where there is no part for examples, the first rows are those.
Examples that a model's context has no room for are left out whole. HumanEval runs what the models wrote: only where
THETA_RUN_GENERATED_CODE is set, and only shut in (see `sandbox`).
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.champion import Champion
from theta_ml.evaluation.benchmarks.items import files_of, fingerprint
from theta_ml.evaluation.benchmarks.measure import Exam, measure, names_of, prepare, result
from theta_ml.evaluation.benchmarks.report import BenchmarkReport
from theta_ml.evaluation.benchmarks.sandbox import why_no_sandbox
from theta_ml.evaluation.benchmarks.tasks import BENCHMARKS
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Local, Stage, StageSkipped, Work

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.asking import Answers

SCORES = "scores.jsonl"
"""In the artifact: an item a line, as benchmark, item (file and line), candidate and champion (1 right, 0 wrong)."""


@dataclass(frozen=True)
class BenchmarkSpec:
    """Which benchmarks, and how much of them."""

    month: str
    """Month of the run."""
    champion: Champion | None = None
    """Model in production; filled in from the registry."""
    only: str = ""
    """Benchmarks, separated by commas; all that have a file where not given."""
    limit: int = 100
    """Items of each, drawn with `seed`; 0 takes all. 100 have a standard error of 0.04 to 0.05 at a quarter right."""
    seed: int = 20260101
    """Of the draw."""
    folder: Local = ""
    """Of the files; filled in from THETA_BENCHMARKS."""
    content: str = ""
    """What the files hold; filled in."""
    no_sandbox: str = ""
    """Why the code that HumanEval asks for is not run; filled in, empty where it is."""

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}: choose 0 for all the items, or for example 100")


def resolve(spec: BenchmarkSpec, inputs: Inputs, settings: Settings, run_id: str) -> BenchmarkSpec:
    """Fills in where the files are and what they hold. Raises StageSkipped where there are none."""
    folder = Path(spec.folder) if spec.folder else settings.benchmarks
    if folder is None:
        raise StageSkipped("no benchmarks: THETA_BENCHMARKS, the folder of their files, is not set")
    content = fingerprint(folder)
    if not content:
        raise StageSkipped(
            f"no benchmarks: {folder} has no {', '.join(f'{name}*.jsonl' for name in BENCHMARKS)} (or .jsonl.gz)"
        )
    return replace(spec, folder=str(folder), content=content, no_sandbox=code_is_not_run(spec.only, folder, settings))


def code_is_not_run(only: str, folder: Path, settings: Settings) -> str:
    """Why HumanEval's code is not run; empty where it is, or where nobody asks for it."""
    if "humaneval" not in names_of(only) or not files_of("humaneval", folder):
        return ""
    if not settings.run_generated_code:
        return "it runs code that a model wrote: set THETA_RUN_GENERATED_CODE=true to have it run, shut in"
    return why_no_sandbox()


def benchmark(spec: BenchmarkSpec, inputs: Inputs, work: Work) -> BenchmarkReport:
    models = {"candidate": inputs.path("train") / "model"}
    if spec.champion:
        models["champion"] = spec.champion.model(work.store)
    return examine(spec, models, work.events, work.path / SCORES)


def examine(
    spec: BenchmarkSpec, models: dict[str, Path], events: Events, scores: Path | None = None
) -> BenchmarkReport:
    """`models`: the candidate's folder, and the champion's where there is one; `spec` is filled in (`resolve`).

    The score of each item is written to `scores`. Raises StageSkipped where nothing can be asked.
    """
    exams, skipped = prepare(spec.only, Path(spec.folder), spec.limit, spec.seed, spec.no_sandbox)
    for name, why in skipped.items():
        events.log(f"{name} is left out: {why}")
    if not exams:
        raise StageSkipped("; ".join(f"{name}: {why}" for name, why in skipped.items()))
    events.log(", ".join(f"{len(exam.asked)} items of {exam.benchmark.name}" for exam in exams))
    ours, *others = measure(exams, models, lambda done, total, who: events.progress(done, total, "answers", who))
    theirs = others[0] if others else {}
    if scores:
        _write_scores(scores, exams, ours, theirs)
    version = spec.champion.version if spec.champion else None
    results = [result(exam, ours[exam.benchmark.name], theirs.get(exam.benchmark.name)) for exam in exams]
    return BenchmarkReport(spec.month, version, results, skipped)


def _write_scores(path: Path, exams: list[Exam], ours: "dict[str, Answers]", theirs: "dict[str, Answers]") -> None:
    with path.open("w") as file:
        for exam in exams:
            name = exam.benchmark.name
            champion = theirs[name].scores if name in theirs else [None] * len(exam.asked)
            for item, mine, other in zip(exam.asked, ours[name].scores, champion, strict=True):
                numbers = {"candidate": _number(mine), "champion": _number(other)}
                file.write(json.dumps({"benchmark": name, "item": item["item"], **numbers}) + "\n")


def _number(score: float | None) -> float | None:
    return None if score is None or math.isnan(score) else score


STAGE = Stage(name="benchmark", version=1, spec=BenchmarkSpec, function=benchmark, resolve=resolve)
