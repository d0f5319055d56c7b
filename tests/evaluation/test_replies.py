import pytest

from tests.evaluation.models import said
from theta_ml.evaluation.conversations import HeldOut
from theta_ml.evaluation.replies import Prompt, chrf, generation, prompts


def _held_out(messages: list) -> HeldOut:  # type: ignore[type-arg]
    return HeldOut("a", "2026-01", "irc", "unknown", "en", "short", messages)


def test_the_last_answer_to_somebody_is_asked_for_again() -> None:
    twice = [*said("hello?", "yes"), *said("where?", "there"), {"role": "user", "content": "thanks"}]
    alone = [{"role": "assistant", "content": "is anybody there?"}]
    (asked,) = prompts([_held_out(twice), _held_out(alone)])
    assert (asked.messages, asked.reference) == (twice[:3], "there")


def test_chrf_is_100_for_the_reference_itself_and_0_for_nothing() -> None:
    references = ["press the green button", "wait for a moment"]
    assert chrf(references, references) == pytest.approx(100)
    assert chrf(["", ""], references) == 0
    near, far = chrf(["press the green knob", "wait a moment"], references), chrf(["why", "no"], references)
    assert 100 > near > far


def test_replies_without_a_reference_are_no_part_of_it() -> None:
    asked = [Prompt(said("a", "b")[:1], "one two three"), Prompt(said("c", "d")[:1])]
    found = generation(asked, ["one two three", "x"], ["four", "y"])
    assert found is not None and found.champion_chrf is not None
    assert (found.replies, found.words, found.champion_words, found.reference_words) == (1, 3, 1, 3)
    assert found.chrf > found.champion_chrf
    assert generation(asked[1:], ["x"], None) is None
