"""Which conversations cleaning rejects; above all, which it does not."""

import gzip
import json
import random
from pathlib import Path

import pytest

from tests.corpus.cleaned import asked, batch, only_reason, reason
from theta_ml.corpus.cleaning import Rules, clean
from theta_ml.privacy.redaction import Redactor

REAL = Path(__file__).parents[3] / "shared/data/conversations"
_WORDS = ["the", "kernel", "module", "loads", "fine", "when", "you", "add", "it", "and", "then", "reboot", "machine"]


def prose(words: int, seed: int = 0) -> str:
    """Words in random order: nothing that repeats but the words."""
    return " ".join(random.Random(seed).choices([*_WORDS, *(f"{word}s" for word in _WORDS)], k=words))


@pytest.mark.parametrize(
    ("expected", "turns"),
    [
        ("empty", []),
        ("empty", [("user", " \n\t "), ("assistant", "\u200b")]),
        ("no_assistant_turn", [("user", "Is anybody here?")]),
        ("no_assistant_turn", [("user", "Is anybody here?"), ("assistant", "   ")]),
        ("too_short", [("user", "?"), ("assistant", "!")]),
        ("damaged", asked("Was ist los?", "Gr\ufffd\ufffde aus K\ufffdln")),
        ("repeated_reply", asked("Tell me more", *["I am sorry, I did not get that."] * 6)),
        ("repeated_lines", asked("List them", "\n".join(["the same line again", "and this one"] * 12))),
        ("repeated_phrases", asked("Tell me", "and then we went to the house and " * 20)),
        ("symbols", asked("Draw", "-=+*#~" * 60)),
        ("capitals", asked("Why?", "I HAVE TOLD YOU BEFORE THAT THIS IS HOW IT IS. " * 2 + prose(40, 3).upper())),
        ("long_words", asked("Encode it", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk" * 8)),
        ("toxic_reply", asked("Help me please", "Shut the fuck up, you stupid bitch, and read the manual")),
        ("toxic_reply", asked("I feel bad today", "Then go and kill yourself.")),
    ],
)
def test_rejects(expected, turns):
    assert reason(*turns) == expected


@pytest.mark.parametrize(
    "turns",
    [
        [("assistant", "A plain text, such as a page of a book: " + prose(300))],
        asked("hi", "hi"),
        asked("yes", "ok", "ok", "ok", "ok"),
        asked("This fucking shit is broken, you moron, fuck it all", "I am sorry. What did you try?"),
        asked("how do I fix it", "oh shit, that is an old bug. " + prose(60)),
        asked("WHY DOES IT NOT WORK? " * 20, "Because the service is down."),
        asked("😀😀😀", "🎉" * 100),
        asked("12 * 12?", "12 * 12 = 144\n" + "\n".join(f"{n} * {n} = {n * n}" for n in range(40))),
        asked("And in Chinese?", "内核模块在重新启动后可以正常加载，请先检查日志文件。然后再试一次。" * 2),
        asked("a loop?", "```c\n" + "\n".join(f"for (i{n} = 0; i{n} < 9; i{n}++) {{ a[i{n}]++; }}" for n in range(20))),
        asked("logs?", "\n".join(f"Mar  3 12:00:{n:02} host kernel: [{n * 7}.{n}] new device {n}" for n in range(40))),
        asked("paths?", "/usr/lib/x86_64-linux-gnu/libc.so.6 /usr/share/doc/changelog.Debian.gz\n" * 3 + prose(30)),
    ],
)  # fmt: skip
def test_keeps(turns):
    assert reason(*turns) is None


def test_languages_are_filled_where_unknown_and_trusted_where_said():
    turns = [
        asked("Kannst du mir bitte helfen, mein Drucker geht nicht mehr?", "Gern, was zeigt er denn an?"),
        asked("Could you help me find a restaurant for tonight?", "Sure, which kind of food would you like?"),
        asked("ls -la", "ok"),
    ]
    found = clean(batch(*turns, language=None))
    assert found.batch.conversations["language"].to_list() == ["de", "en", None]
    assert found.changed["language"] == 2
    said = clean(batch(*turns, language="fr-CA"))
    assert set(said.batch.conversations["language"]) == {"fr"}
    assert said.changed["language"] == 0


def test_only_the_languages_asked_for_are_kept_and_the_unknown():
    turns = [
        asked("Kannst du mir bitte helfen, mein Drucker geht nicht mehr?", "Was zeigt er an?"),
        asked("ls -la", "ok"),
    ]
    result = clean(batch(*turns, language=None), Rules(languages=("en",)))
    assert result.rejected.rows() == [("c0", "language")]


def test_the_lexicon_is_for_english():
    answer = "Le train est en retard, très en retard, un retard de dix minutes. Encore du retard."
    assert reason(*asked("Et le train ?", answer), language="fr") is None
    assert reason(*asked("The train?", "You retard, what a retard, total retard."), language="en") == "toxic_reply"


def test_rejected_conversations_are_shown_redacted():
    cleaned = clean(batch([("user", "Mail me at ann&#64;example.org please")]))
    assert only_reason(cleaned) == "no_assistant_turn"
    assert [(sample.step, sample.before) for sample in cleaned.samples] == [
        ("no_assistant_turn", "user › Mail me at [EMAIL_1] please")
    ]


@pytest.mark.parametrize(
    "rules", [{"max_symbol_share": 1.5}, {"languages": ("English",)}, {"max_message_characters": 0}]
)
def test_rules_say_what_to_choose(rules):
    with pytest.raises(ValueError, match=r"choose|write"):
        Rules(**rules)


@pytest.mark.parametrize(
    ("name", "most"),
    # Of 1,000 conversations: IRC questions that nobody answered teach nothing; all else is as good as it looks.
    [("sgd", {}), ("taskmaster4", {}), ("topical_chat", {}), ("ubuntu_irc", {"no_assistant_turn": 300})],
)
def test_real_conversations_survive(name, most):
    path = REAL / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no real conversations at {path}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for _, line in zip(range(1000), file, strict=False)]
    turns = []
    for line in lines:
        redactor = Redactor()
        turns.append([(turn["role"], redactor.redact(turn["content"])) for turn in line["messages"]])
    result = clean(batch(*turns))
    for sample in result.samples:
        assert Redactor().redact(sample.before + sample.after) == sample.before + sample.after
    counts = dict(result.rejected["reason"].value_counts().iter_rows())
    assert set(counts) <= {*most, "capitals"}
    assert counts.get("capitals", 0) <= 1
    assert all(counts[found] <= limit for found, limit in most.items())
