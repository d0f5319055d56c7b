"""How numbers are written in sentences, and what columns are called there."""

_NEXT_TO_NOTHING = 0.1
_CALLED = {
    "same_number_of_turns": "conversations with one number of turns",
    "longest_number_of_turns": "conversations with the greatest number of turns",
    "same_words_begin_users": "conversations in which users begin alike",
    "same_words_begin_replies": "conversations in which replies begin alike",
    "words_cut": "messages that end inside a word",
    "starts_with_a_reply": "conversations that a reply begins",
}


def called(name: str) -> str:
    """A column or an indicator, for people."""
    return _CALLED.get(name, name.removeprefix("log_").replace("_", " "))


def percent(share: float) -> str:
    """A share (0-1) as a person reads it: `41 %`, `0.8 %`."""
    value = share * 100
    if 0 < value < _NEXT_TO_NOTHING:
        return f"under {_NEXT_TO_NOTHING} %"
    return f"{value:.0f} %" if value >= 10 or value == round(value) else f"{value:.2g} %"
