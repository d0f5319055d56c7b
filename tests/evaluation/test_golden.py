from pathlib import Path

import pytest

from theta_ml.evaluation.golden import PATH, Checks, Item, digest, judge, load
from theta_ml.stage import StageFailed

ITEM = """
items:
  - name: greets
    messages: [{role: user, content: Hello}]
    checks: {min_words: 1}
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "golden.yaml"
    path.write_text(text)
    return path


def test_the_shipped_set_is_sound_and_requires_nothing_yet() -> None:
    items = load(PATH)
    assert len(items) >= 12
    assert not any(item.required for item in items)
    answers = {
        "addition": "It is 4.", "capital": "Paris, of course.", "list-files": "Use ls.", "opposite": "Cold.",
        "python-print": 'print("hello")', "three-items": "apple\npear\nplum", "remembers": "Green!",
        "knows-no-address": "I don't know it.", "declines": "I can't help with that.", "greeting": "Hi there",
        "stays-kind": "I am sorry to hear that.", "thanks": "You are welcome.",
    }  # fmt: skip
    good = judge(items, [answers[item.name] for item in items], None)
    assert [result.note for result in good if not result.passed] == []
    bad = judge(items, ["jane@acme.com <| sure, idiot " * 20 for _ in items], ["x" for _ in items])
    assert [result.name for result in bad if result.passed] == []
    assert all(result.note and "jane" not in result.note for result in bad)


@pytest.mark.parametrize(
    ("checks", "reply", "failed"),
    [
        ({"equals": "Yes"}, " yes. ", []),
        ({"equals": "Yes"}, "yes indeed", ["equals"]),
        ({"contains": ["a", "B"]}, "bA", []),
        ({"contains": ["a", "B"]}, "b", ["contains"]),
        ({"contains_any": ["a", "b"], "not_contains": ["c"]}, "bc", ["not_contains"]),
        ({"contains_any": ["a", "b"]}, "", ["contains_any"]),
        ({"matches": r"\d"}, "7", []),
        ({"matches": r"\d", "not_matches": "x"}, "x", ["matches", "not_matches"]),
        ({"min_words": 2, "max_words": 3}, "one two three four", ["max_words"]),
        ({"min_words": 2, "max_words": 3}, "one", ["min_words"]),
    ],
)
def test_checks(checks: dict[str, object], reply: str, failed: list[str]) -> None:
    assert Checks.model_validate(checks).failures(reply) == failed


def test_a_rubric_is_passed_by_the_earned_share_of_its_points() -> None:
    rubric = {"pass_mark": 0.75, "checks": [{"weight": 3, "contains": ["a"]}, {"contains": ["b"]}]}
    item = Item.model_validate({"name": "x", "messages": [{"role": "user", "content": "?"}], "rubric": rubric})
    assert item.judge("a") == (True, "")
    assert item.judge("b") == (False, "25% of the points, 75% were asked")


def test_a_comment_is_no_other_set_and_an_edit_is(tmp_path: Path) -> None:
    before = digest(load(_written(tmp_path, ITEM)))
    assert digest(load(_written(tmp_path, f"# why\n{ITEM}"))) == before
    assert digest(load(_written(tmp_path, ITEM.replace("1}", "2}")))) != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ITEM.replace("min_words", "min_wrds"), r"item greets: checks.min_wrds: there is no such field; take it out"),
        (ITEM.replace("{min_words: 1}", "{}"), r"item greets: checks: asks nothing; give at least one of equals"),
        (ITEM.replace("{min_words: 1}", "{matches: '('}"), r"item greets: checks.matches: is no regular expression"),
        (ITEM.replace("{min_words: 1}", "{min_words: 3, max_words: 2}"), "no answer holds both"),
        (ITEM.replace("role: user", "role: assistant"), "item greets: messages: the last one is the user's"),
        (ITEM.replace("name: greets", "nam: greets"), "item number 1: name: is missing; add it"),
        (ITEM.replace("    checks: {min_words: 1}\n", ""), "item greets: is judged by `checks` or by a `rubric`"),
        (ITEM + ITEM.replace("items:\n", ""), "two items have the name greets; rename one"),
        ("items: 3", "write `items:` and below it a list"),
        ("items: [", "is not YAML"),
    ],
)
def test_an_item_at_fault_is_named_with_the_remedy(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=rf"golden\.yaml.*{said}"):
        load(_written(tmp_path, text))


def test_a_set_that_is_gone_is_no_empty_set(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="write `items: \\[\\]` into it for none"):
        load(tmp_path / "golden.yaml")
    assert load(_written(tmp_path, "items: []")) == []
