"""How an assistant writes, from what anybody can see: a model may gain on chat and lose on code."""

import re
from collections import Counter
from collections.abc import Sequence

STYLES = ("code", "list", "question", "terse", "prose")
"""In this order a turn is of the first that fits, and of two styles with as many turns the first stands for all."""
TERSE_WORDS = 8
"""A turn of at most so many words is terse."""
_CODE = re.compile(r"```|^(?: {4}|\t)\S|^\s*[$#>] \S|[;{}]\s*$", re.MULTILINE)
"""A fence, an indented block, a prompt of a shell, a line that ends as code does."""
_ITEM = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+\S", re.MULTILINE)


def style_of(turns: Sequence[str]) -> str:
    """The style of most of the turns of a conversation's assistant; `prose` where it says nothing."""
    counts = Counter(map(_style, turns))
    return max(STYLES, key=lambda style: counts[style]) if counts else "prose"


def _style(turn: str) -> str:
    if _CODE.search(turn):
        return "code"
    if len(_ITEM.findall(turn)) > 1:
        return "list"
    if turn.rstrip().endswith("?"):
        return "question"
    return "terse" if len(turn.split()) <= TERSE_WORDS else "prose"
