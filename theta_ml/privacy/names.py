"""People's names, by what people write before them: my name is ..., Dear ..., Mrs ..., Regards, ...

Without a model only a cue tells a name from any other capital. A name that stands alone stays, until one with a cue
has told who is meant: the rest of the conversation is searched for that one (`Redactor`).
"""

import re
from collections.abc import Iterable, Iterator

from theta_ml.privacy.spans import Rule, Span, longest
from theta_ml.privacy.words import NO_NAME, PARTICLES, WORD_AND_NAME

_TITLES = "Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Doctor|Madam|Madame|Herr|Frau|Señora?|Signora?|Monsieur"
_GREETINGS = "Dear|Hi|Hello|Hey|Thanks|Thank you|Good morning|Good afternoon|Good evening|Bye|Goodbye"
_RELATIVES = (
    "mother|father|mom|mum|dad|brother|sister|wife|husband|son|daughter|uncle|aunt|cousin|grandmother|grandfather|grandma|"
    "grandpa|kid|child|baby|friend|boyfriend|girlfriend|fiancée?|boss|colleague|coworker|roommate|neighbou?r|nephew|niece"
)
_BEFORE = (
    rf"\b(?:{_TITLES})\b\.?[ ]"
    rf"|\b(?:{_GREETINGS}),?[ ]"
    r"|(?i:\b(?:my|his|her|their|the|your|our) (?:full |first |last |real |maiden |sur|user)?name (?:is|to|as)[ ])"
    r"|(?i:\bname on (?:it|(?:the|my) (?:card|account|order|booking|reservation)) is[ ]|\bunder the name(?: of)?[ ])"
    r"|(?i:\bname(?:'s[ ]|:[ ]?\n?))"
    r"|(?i:\b(?:call me|i'm called|i am called|i am|i'm)[ ])"
    r"|(?:^|[.!?,] |\n)(?i:this is )"
    rf"|(?i:\bmy (?:{_RELATIVES})(?:,|'s name is| is| was)?(?: called| named)?[ ])"
    rf"|(?i:\b(?:{_RELATIVES}|man|woman|boy|girl|guy|person|someone|user|customer|patient)"
    r" (?:was |is )?(?:called|named)[ ])"
    r"|(?i:\b(?:regards|best wishes|sincerely|yours truly|sincerely yours|cheers|thanks|love),[ ]?\n?\n?[ ]?)"
    r"|(?i:\b(?:attn|attention|recipient|passenger|patient|customer|cardholder|user|sender|signed):[ ])"
    r"|(?:^|\n)>?[ ]?(?i:from|to|cc|c/o):[ ]"
)
"""What stands before a name. No look-around and ASCII classes: it is the rule's hint as well."""
_CAPITAL = r"[^a-z0-9\s.,;:!?()\[\]{}<>\"'/\\*=@#$%&+|~^`_-]"
_CUE = re.compile(f"(?P<cue>{_BEFORE})(?={_CAPITAL})")
_LOWER = re.compile(
    r"(?i)\bmy (?:full |first |last )?name(?: is|'s)[ ]([a-z]{3,20}(?: [a-z]{3,20})?)(?=[.,!?]|$|\n| and )"
)
_SPOKE = re.compile(r"(?m)^[ ]{0,4}([^\W\d_][\w' -]{1,40}):[ ]?[\"“]")
_HINT = rf"(?:{_BEFORE}){_CAPITAL}|(?i:my (?:full |first |last )?name(?: is|'s) [a-z])|:[ ]?[\"“]"

_WORD = re.compile(r"[^\W\d_](?:[\w'’-]{0,40}\w)?")
_MAX_WORDS = 5
_WEAK = re.compile(rf"(?i)(?:this is|i am|i'm|to:|from:|{_GREETINGS}),? ?$")
"""Cues that more often stand before something else: what follows must end as a name does."""
_ENDS = re.compile(r"[ ]?(?:$|\n|[.,!?;)]|and\b|from\b|here\b|speaking\b|calling\b|again\b|with\b|at\b|by the way)")

_DEMONYM = re.compile(r"(?:ish|ese|[cs]ian|ican|ean)s?$")


def _names(text: str) -> list[Span]:
    spans = [span for match in _CUE.finditer(text) if (span := _after(text, match))]
    for pattern in (_LOWER, _SPOKE):
        for match in pattern.finditer(text):
            words = match[1].lower().split()
            if words[0] not in NO_NAME and (pattern is _LOWER or _all_capital(match[1])):
                spans.append(_span(text, *match.span(1)))
    return longest(spans)


def _after(text: str, cue: re.Match[str]) -> Span | None:
    """The name that begins where the cue ends, if one does."""
    end = _end_of_name(text, cue.end())
    if end is None or (_WEAK.search(cue[0]) and not _ENDS.match(text, end)):
        return None
    return _span(text, cue.end(), end)


def _end_of_name(text: str, start: int) -> int | None:
    """Capitalised words, initials, and small particles between them; none if the first word is no name."""
    end, at = None, start
    for place in range(_MAX_WORDS):
        match = _WORD.match(text, at)
        initial = bool(match) and text[at].isupper() and text.startswith(".", at + 1)
        if not match or not (initial or _may_be_name(match[0], place)):
            break
        at = match.end()
        if match[0] not in PARTICLES and (end or not initial):
            end = at
        if text.startswith(".", at) and len(match[0]) == 1:
            at += 1
        if not text.startswith(" ", at):
            break
        at += 1
    return end


def _may_be_name(word: str, place: int) -> bool:
    if word in PARTICLES:
        return True
    lower = word.lower()
    return (
        word[0].isupper()
        and lower not in NO_NAME
        and "'" not in lower[-3:-1]
        and not _DEMONYM.search(lower)
        and (len(word) > 1 or place > 0)
    )


def _all_capital(shown: str) -> bool:
    return all(word[0].isupper() or word in PARTICLES for word in shown.split())


def _span(text: str, start: int, end: int) -> Span:
    return Span(start, end, text[start:end].casefold())


class KnownNames:
    """The names told in a conversation, and who each of their words means."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    @property
    def any(self) -> bool:
        return bool(self._owners)

    def learn(self, names: Iterable[str]) -> None:
        """`names` are casefolded. Anna Berg is Anna from now on; and is the Anna who was told before."""
        new = [name for name in names if name not in self._owners]
        for name in new:
            words = _telling_words(name)
            alone = (word for word in words if self._owners.get(word) == word)
            owner = self._owners.setdefault(name, next(alone, name))
            for word in words:
                self._owners.setdefault(word, owner)
            self._pattern = None

    def owner(self, name: str) -> str:
        return self._owners.get(name, name)

    def mentions(self, text: str) -> Iterator[Span]:
        """Where a known name stands, capitalised."""
        lower = text.lower()
        if not any(name in lower for name in self._owners):
            return
        self._pattern = self._pattern or self._compiled()
        for match in self._pattern.finditer(text):
            if match[0][0].isupper():
                yield Span(*match.span(), match[0].casefold())

    def _compiled(self) -> re.Pattern[str]:
        """Longer names first; one that means nobody for sure is not looked for."""
        known = sorted(filter(_is_telling, self._owners), key=len, reverse=True)
        alternatives = "|".join(map(re.escape, known)) or "(?!)"
        return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


def _telling_words(name: str) -> list[str]:
    words = name.replace(".", " ").split()
    return [word for word in words if _is_telling(word)] if len(words) > 1 else []


def _is_telling(name: str) -> bool:
    """Whether it means a person wherever it stands: Will, May and the like do not."""
    return len(name) > 2 and name not in NO_NAME and name not in PARTICLES and name not in WORD_AND_NAME


NAME = Rule("NAME", _HINT, _names)
