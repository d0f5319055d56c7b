import pytest

from theta_ml.evaluation.style import style_of


@pytest.mark.parametrize(
    ("style", "turns"),
    [
        ("code", ["Try this:\n```bash\nls -l\n```"]),
        ("code", ["    for each in range(3):"]),
        ("list", ["You need:\n- flour\n- eggs"]),
        ("list", ["1. Open it\n2. Read it"]),
        ("question", ["Which version of it do you have, and on which of the two machines does it run?"]),
        ("terse", ["Unplug it."]),
        ("prose", ["The window opens inwards, so move the flowers away from it first - they fall easily."]),
        ("terse", ["Yes.", "No.", "Tell me a little more about it, and what you tried before you wrote to us here?"]),
        ("prose", []),
    ],
)
def test_how_an_assistant_writes(style: str, turns: list[str]) -> None:
    assert style_of(turns) == style
