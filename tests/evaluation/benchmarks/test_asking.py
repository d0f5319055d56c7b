"""The harness on models that know, that guess, and that are real."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate

from tests.evaluation.benchmarks import files
from theta_ml.corpus.tokenizer import train_tokenizer
from theta_ml.evaluation.benchmarks.asking import Answers, Model, Room, Task, ask
from theta_ml.evaluation.benchmarks.measure import Exam, prepare
from theta_ml.evaluation.benchmarks.report import share, standard_error
from theta_ml.evaluation.benchmarks.sandbox import why_no_sandbox
from theta_ml.model import ThetaConfig, ThetaForCausalLM

TEXTS = ["What is 1 and 2? A. B. C. D. Answer: the sum of these is", "Which of these is the square of 12? Choices:"]
SOLUTIONS = {"math": "solution", "gsm8k": "answer"}


class Stub(LM):
    """Stands where a model's computation begins: it likes a choice as `likes` says, and replies as `says` says."""

    tokenizer_name = "stub"

    def __init__(self, likes: Callable[[Instance], float], says: Callable[[Instance], str]) -> None:
        super().__init__()
        self.likes, self.says = likes, says
        self.prompts: list[str] = []

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        self.prompts += [request.args[0] for request in requests]
        return [(self.likes(request), False) for request in requests]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        return [self.says(request) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise NotImplementedError

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "".join(f"[{turn['role']}] {turn['content']}\n" for turn in chat_history)


def _knows(request: Instance) -> float:
    return 0.0 if request.idx == request.doc["gold"] else -9.0


def _solves(request: Instance) -> str:
    assert request.task_name is not None
    return str(request.doc[SOLUTIONS[request.task_name]]) if request.task_name in SOLUTIONS else "    return a + b\n"


def _asked(exams: list[Exam], lm: LM, room: Room | None = None) -> dict[str, Answers]:
    room = room or Room(4096, len)
    return ask(lm, [Task(exam.benchmark, exam.items, exam.asked, room) for exam in exams])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.all_of_them(tmp_path_factory.mktemp("benchmarks"))


def _exams(folder: Path, only: str = "") -> list[Exam]:
    return prepare(only, folder, 0, 1, why_no_sandbox())[0]


def test_who_knows_has_all_right(folder: Path) -> None:
    answers = _asked(_exams(folder), Stub(_knows, _solves))
    assert set(answers) >= {"mmlu", "gpqa", "math", "gsm8k"}
    assert {name: share(each.scores) for name, each in answers.items()} == dict.fromkeys(answers, 1.0)
    assert {name: len(each.scores) for name, each in answers.items() if name != "humaneval"} == {
        "mmlu": 6, "gpqa": 6, "math": 6, "gsm8k": 6,
    }  # fmt: skip


def test_who_errs_has_none_right(folder: Path) -> None:
    answers = _asked(_exams(folder), Stub(lambda request: -_knows(request), lambda request: "    return 4711\n"))
    assert {name: share(each.scores) for name, each in answers.items()} == dict.fromkeys(answers, 0.0)


def test_who_guesses_has_a_quarter_right(tmp_path: Path) -> None:
    files.write(tmp_path, "mmlu", files.mmlu(300))
    guess = random.Random(5)
    answers = _asked(_exams(tmp_path, "mmlu"), Stub(lambda request: guess.random(), _solves))
    assert 0.2 < (share(answers["mmlu"].scores) or 0) < 0.3


def test_a_broken_model_has_no_number(folder: Path) -> None:
    answers = _asked(_exams(folder, "mmlu,gpqa"), Stub(lambda request: float("nan"), _solves))
    assert [share(each.scores) for each in answers.values()] == [None, None]


def test_numbers_are_the_harness_own(tmp_path: Path) -> None:
    files.write(tmp_path, "mmlu", files.mmlu(60))
    (exam,) = _exams(tmp_path, "mmlu")
    guess = random.Random(5)
    task = Task(exam.benchmark, exam.items, exam.asked, Room(4096, len))
    lm = Stub(lambda request: guess.random(), _solves)
    theirs: Any = evaluate(lm, {"tasks": {"mmlu": task}, "groups": {}, "group_map": {}}, bootstrap_iters=100)
    assert theirs["results"]["mmlu"]["acc,none"] == pytest.approx(share(task.answers.scores))
    assert theirs["results"]["mmlu"]["acc_stderr,none"] == pytest.approx(standard_error(task.answers.scores))


def test_examples_that_do_not_fit_are_left_out_whole(folder: Path) -> None:
    exams = _exams(folder, "mmlu,gsm8k")
    for room, shots in ((4096, [3, 5]), (330, [2, 1]), (235, [1, 0])):
        lm = Stub(_knows, _solves)
        answers = _asked(exams, lm, Room(room, len))
        assert [answers[name].shots for name in ("mmlu", "gsm8k")] == [[number] * 6 for number in shots], room
        assert [each.cut for each in answers.values()] == [0, 0]
        assert all(len(prompt) < room for prompt in lm.prompts)
        assert {prompt.count("[assistant]") for prompt in lm.prompts} == set(shots)
    assert _asked(exams, Stub(_knows, _solves), Room(60, len))["mmlu"].cut == 6


def test_prompts_are_turns_of_a_chat(folder: Path) -> None:
    lm = Stub(_knows, _solves)
    _asked(_exams(folder, "mmlu"), lm, Room(280, len))
    assert lm.prompts[4] == (
        "[system] The following are multiple choice questions (with answers) about small numbers.\n"
        "[user] What is 1 and 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:\n[assistant] B\n"
        "[user] What is 3 and 3?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:\n[assistant] D\n"
        "[user] What is 1 and 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:\n"
    )


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    tokenizer = train_tokenizer(TEXTS * 3, 350)
    config = ThetaConfig(
        vocab_size=tokenizer.vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    made = tmp_path_factory.mktemp("model")
    ThetaForCausalLM(config).save_pretrained(made)
    tokenizer.save(made, 256)
    return made


def test_a_real_model_is_asked_what_its_prompt_says(model_dir: Path, folder: Path) -> None:
    """Its likelihoods are those of the choice after the prompt's turns, read from the end where they do not fit."""
    heard = []
    model = Model(model_dir, lambda: heard.append(1))
    tasks = [Task(exam.benchmark, exam.items, exam.asked, model.room) for exam in _exams(folder, "mmlu,gpqa,gsm8k")]
    answers = ask(model, tasks)
    assert len(heard) == sum(len(task.instances) for task in tasks) == 6 * (4 + 4 + 1)
    assert {name: share(each.scores) for name, each in answers.items()}["gsm8k"] == 0
    tokenizer = model.tokenizer
    for request in (*tasks[0].instances[:8], *tasks[1].instances[:4]):
        prompt, choice = (tokenizer.encode(text, add_special_tokens=False) for text in request.args)
        assert prompt.count(tokenizer.convert_tokens_to_ids("<|assistant|>")) == 1 + answers["mmlu"].shots[0] * (
            request.task_name == "mmlu"
        )
        with torch.inference_mode():
            logits = model.model(torch.tensor([prompt + choice])[:, -257:-1]).logits[0, -len(choice) :]
        wanted = logits.log_softmax(-1)[torch.arange(len(choice)), torch.tensor(choice)].sum()
        ((likelihood, _),) = request.resps
        assert likelihood == pytest.approx(float(wanted), abs=1e-4)


def test_replies_leave_half_of_the_context_to_the_prompt(model_dir: Path, folder: Path) -> None:
    model = Model(model_dir, lambda: None)
    (exam,) = _exams(folder, "gsm8k")
    task = Task(exam.benchmark, exam.items, exam.asked, model.room)
    ask(model, [task])
    assert task.config.generation_kwargs["max_gen_toks"] == 128
    for request in task.instances:
        assert model.room.tokens(request.args[0]) <= 128 or task.answers.cut
        assert model.room.tokens(request.resps[0]) <= 140
