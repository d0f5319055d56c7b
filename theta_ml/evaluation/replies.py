"""What both models answer to the same prompts, and how near that is to what was answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.report import Generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from theta_ml.corpus.tokenizer import ChatTokenizer, Message


@dataclass(frozen=True)
class Prompt:
    """Messages up to where the assistant speaks, and what it said there."""

    messages: "list[Message]"
    reference: str = ""
    """Empty where there is none, as with an item of the golden set."""


def prompts(conversations: Sequence[HeldOut]) -> list[Prompt]:
    """Of each conversation its last answer to somebody; none where the assistant alone speaks."""
    found = [_prompt(conversation.messages) for conversation in conversations]
    return [prompt for prompt in found if prompt]


def _prompt(messages: "list[Message]") -> Prompt | None:
    for at in range(len(messages) - 1, 0, -1):
        answer, before = messages[at], messages[:at]
        if answer["role"] == "assistant" and answer["content"] and any(m["role"] == "user" for m in before):
            return Prompt(before, answer["content"])
    return None


def reply(
    model: "PreTrainedModel", tokenizer: "ChatTokenizer", asked: Sequence[Prompt], max_new_tokens: int
) -> list[str]:
    """The model's answers, in the order of the prompts; greedy, so that chance decides nothing."""
    from theta_ml.model.generation import generate_replies

    return generate_replies(model, tokenizer, [prompt.messages for prompt in asked], max_new_tokens)


def generation(asked: Sequence[Prompt], ours: Sequence[str], theirs: Sequence[str] | None) -> Generation | None:
    """Of the prompts that have a reference; `ours` and `theirs` are the models' answers, in the prompts' order."""
    at = [number for number, prompt in enumerate(asked) if prompt.reference]
    if not at:
        return None
    references = [asked[number].reference for number in at]
    candidate, champion = ([said[number] for number in at] if said else None for said in (ours, theirs))
    assert candidate is not None
    return Generation(
        replies=len(at),
        chrf=chrf(candidate, references),
        champion_chrf=chrf(champion, references) if champion else None,
        words=_words(candidate),
        champion_words=_words(champion) if champion else None,
        reference_words=_words(references),
    )


def chrf(replies: Sequence[str], references: Sequence[str]) -> float:
    """0 to 100: F2 of character 6-grams over all replies together (Popović 2015), sacrebleu's defaults."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(replies), [list(references)]).score)


def _words(texts: Sequence[str]) -> float:
    return sum(len(text.split()) for text in texts) / len(texts)
