"""lm-evaluation-harness asked about items of ours: its task with as many examples as fit, its model over a folder.

Importing this takes seconds (torch, datasets, the harness): import it where it is used.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from theta_ml.evaluation.benchmarks.items import Items
from theta_ml.evaluation.benchmarks.rows import Doc
from theta_ml.evaluation.benchmarks.tasks import Benchmark
from theta_ml.model.loading import context_length, load

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of each prompt that is cut; `Answers` counts them

BATCH_TOKENS = 8192
"""Read at once, all of whose logits the harness keeps: half a gigabyte with 16,384 tokens."""
WRITE_BATCH = 64
"""Replies written at once: a step of a small model takes hardly longer for many than for one."""
UNLIMITED = 1 << 62
"""For the tokenizer, which would warn of texts that are measured and never read."""


@dataclass(frozen=True)
class Room:
    """What a model may read at once."""

    context: int
    """Tokens of prompt and answer."""
    tokens: Callable[[str], int]
    """Length of a text."""

    def reply(self, benchmark: Benchmark) -> int:
        """Tokens left for a reply: at most half of the context."""
        return min(benchmark.reply_tokens, self.context // 2)


@dataclass
class Answers:
    """Of one model to one benchmark, in the order of the items."""

    scores: list[float] = field(default_factory=list)
    """1 right, 0 wrong; NaN where the model's likelihoods are no numbers."""
    shots: list[int] = field(default_factory=list)
    """Examples that fitted before each item."""
    cut: int = 0
    """Items that lost their beginning, for they do not fit even alone."""


class Task(ConfigurableTask):
    """A benchmark of the harness whose prompts hold as many examples as the model has room for, and no parts of one."""

    def __init__(self, benchmark: Benchmark, items: Items, asked: Sequence[Doc], room: Room) -> None:
        self.benchmark, self.items, self.room = benchmark, items, room
        self.answers = Answers()
        parts = {"test": Dataset.from_list(list(asked))}
        if benchmark.shots:
            parts["shots"] = Dataset.from_list(items.examples)
        super().__init__(config=self._config_of(benchmark, parts))

    def _config_of(self, benchmark: Benchmark, parts: dict[str, Dataset]) -> dict[str, Any]:
        config = {
            **benchmark.config,
            "task": benchmark.name,
            "custom_dataset": lambda **_: parts,  # not `dataset_path: json`, which copies the file into a cache
            "test_split": "test",
            "fewshot_split": "shots" if "shots" in parts else None,
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": benchmark.shots,
            "metric_list": [{"metric": benchmark.metric, "aggregation": "mean", "higher_is_better": True}],
        }
        if benchmark.reply_tokens:
            kwargs = config["generation_kwargs"] | {"max_gen_toks": self.room.reply(benchmark)}
            return config | {"generation_kwargs": kwargs, "process_results": self._scored}
        return config

    def build_all_requests(self, **options: Any) -> None:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):  # a progress bar that has no switch
            super().build_all_requests(**options)

    def fewshot_context(self, doc: Doc, num_fewshot: int, **options: Any) -> str:
        """The longest prompt that fits; without examples where none does (the model then reads its end)."""
        longest = self.room.context - max(self.room.reply(self.benchmark), 1)
        examples = self.items.shown_with(doc, num_fewshot)
        for shots in range(len(examples), -1, -1):
            if shots:
                self.sampler.replace_df(examples[:shots])
            prompt = super().fewshot_context(doc, num_fewshot=shots, **options)
            if fits := self.room.tokens(prompt) <= longest:
                break
        self.answers.shots.append(shots)
        self.answers.cut += not fits
        return str(prompt)

    def process_results(self, doc: Doc, results: list[Any]) -> dict[str, float]:
        scored: dict[str, float] = super().process_results(doc, results)
        if not self.benchmark.reply_tokens and any(likelihood != likelihood for likelihood, _ in results):
            scored = {self.benchmark.metric: float("nan")}  # argmax would take the first: a broken model, 25 % right
        self.answers.scores.append(scored[self.benchmark.metric])
        return scored

    def _scored(self, doc: Doc, replies: list[str]) -> dict[str, float]:
        assert self.benchmark.score is not None
        return {self.benchmark.metric: self.benchmark.score(doc, replies)}


class Model(HFLM):
    """A model's folder under the harness; its bars give way to our events."""

    def __init__(self, model_dir: Path, answered: Callable[[], None]) -> None:
        model, _ = load(model_dir)
        context = context_length(model)
        super().__init__(
            pretrained=model,
            backend="causal",
            tokenizer=transformers.AutoTokenizer.from_pretrained(
                model_dir, local_files_only=True, trust_remote_code=False, model_max_length=UNLIMITED
            ),
            max_length=context,
        )
        self.room = Room(context, lambda text: len(self.tok_encode(text)))
        self.set_cache_hook(_Hook(answered))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        self.batch_size_per_gpu = max(BATCH_TOKENS // self.room.context, 1)
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        self.batch_size_per_gpu = WRITE_BATCH
        return super().generate_until(requests, disable_tqdm=disable_tqdm)


class _Hook(CacheHook):
    """The harness tells its cache of each answer as it comes."""

    def __init__(self, answered: Callable[[], None]) -> None:
        super().__init__(None)
        self._answered = answered

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self._answered()


def ask(lm: LM, tasks: Sequence[Task]) -> dict[str, Answers]:
    """Every item of every task, as turns of a chat; by the benchmark's name."""
    evaluate(
        lm,
        {"tasks": {task.benchmark.name: task for task in tasks}, "groups": {}, "group_map": {}},
        bootstrap_iters=0,  # the standard error is taken from the scores, with the champion's beside them
        log_samples=False,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        confirm_run_unsafe_code=True,  # in the sandbox; whoever asks for the task has asked whether there is one
    )
    return {task.benchmark.name: task.answers for task in tasks}
