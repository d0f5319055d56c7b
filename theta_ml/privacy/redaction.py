"""Personal data and secrets in a text, replaced by typed placeholders such as [EMAIL_1].

By rule only: what has a form (an address, a number with a checksum, a token) is found; names are not. The same value
gets the same placeholder throughout a conversation, so that the conversation still makes sense.
"""

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

VERSION = 1
"""Raised when the rules would redact the same text differently: part of the snapshot's key."""

# A text without any of these holds nothing the rules below could find; most texts are settled here.
_HINT = re.compile(r"[0-9@]|://|PRIVATE KEY|sk-|[prs]k_|gh[opsru]_|xox|AKIA|AIza|eyJ|glpat-|hf_|npm_|assw|ecret|oken")
_SEVEN_DIGITS = re.compile(r"(?:\d\D{0,3}){6}\d")

_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:sk-[A-Za-z0-9_-]{20,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}|gh[opsru]_[A-Za-z0-9]{30,}"
    r"|github_pat_\w{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{35}"
    r"|glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}"
    r"|eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{5,})"
)
_ASSIGNED = re.compile(
    r"(?i)\b(?:password|passwd|passphrase|pwd|secret|api[ _-]?key|(?:access|auth|bearer)?[ _-]?token|bearer)"
    r"(?:\s*[:=]\s*|\s+is\s+|\s+)[\"'`]?((?=[^\s\"'`]{0,100}\d)(?=[^\s\"'`]{0,100}[A-Za-z])[^\s\"'`,;]{8,})"
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://\S+", re.IGNORECASE)
_LOGIN = re.compile(r"[^/@:]*:[^/@]+@")
_KEY_PARAMETER = re.compile(
    r"[?&;](?:\w{1,20}_)?(?:token|key|api_?key|password|passwd|secret|sig|signature)=[^\s&]{6}", re.IGNORECASE
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b")
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?=[ ]?[A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){11,18}(?!\d)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}(?![\w:])")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_PHONE = re.compile(r"(?<![\w.$€£#/:+-])(?<!\d,)(?:\+|\(\+?)?\d[\d(). -]{5,22}\d(?:x\d{1,6})?(?![\w%]|[.,:/-]\d)")
_DATE = re.compile(
    r"(?:19|20)\d\d([ .-])\d{1,2}\1\d{1,2}|\d{1,2}([ .-])\d{1,2}\2(?:19|20)\d\d|(?:19|20)\d\d ?- ?(?:19|20)\d\d"
)

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip


class Span(NamedTuple):
    """`text[start:end]` is to be replaced; `value` is what makes two of a kind the same."""

    start: int
    end: int
    value: str


class Redactor:
    """Redacts the texts of one conversation. `counts` says how many places of each type were replaced."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._numbers: dict[tuple[str, str], int] = {}
        self._last: Counter[str] = Counter()

    def redact(self, text: str) -> str:
        if not _HINT.search(text):
            return text
        for kind, find in _RULES:
            text = self._replace(kind, find(text), text)
        return text

    def _replace(self, kind: str, spans: list[Span], text: str) -> str:
        pieces, at = [], 0
        for span in self._numbered(kind, spans):
            pieces += [text[at : span.start], span.value]
            at = span.end
        return "".join([*pieces, text[at:]])

    def _numbered(self, kind: str, spans: list[Span]) -> list[Span]:
        """The spans with their placeholder as value; numbers follow the order of appearance."""
        self.counts[kind] += len(spans)
        return [Span(start, end, f"[{kind}_{self._number(kind, value)}]") for start, end, value in spans]

    def _number(self, kind: str, value: str) -> int:
        if (kind, value) not in self._numbers:
            self._last[kind] += 1
            self._numbers[kind, value] = self._last[kind]
        return self._numbers[kind, value]


def _secrets(text: str) -> list[Span]:
    spans = [Span(*match.span(), match[0]) for match in _SECRET.finditer(text)]
    taken = {position for span in spans for position in range(span.start, span.end)}
    for match in _ASSIGNED.finditer(text):
        if taken.isdisjoint(range(*match.span(1))) and "://" not in match[1] and "[" not in match[1]:
            spans.append(Span(*match.span(1), match[1]))
    return sorted(spans)


def _urls(text: str) -> list[Span]:
    if "://" not in text:
        return []
    return [Span(*match.span(), match[0]) for match in _URL.finditer(text) if _is_private(match[0])]


def _is_private(url: str) -> bool:
    """Whether it carries a login or a key; other addresses are kept."""
    return bool(_LOGIN.match(url, url.index("://") + 3) or _KEY_PARAMETER.search(url))


def _emails(text: str) -> list[Span]:
    return [Span(*match.span(), match[0].lower()) for match in _EMAIL.finditer(text)] if "@" in text else []


def _ibans(text: str) -> list[Span]:
    if not _SEVEN_DIGITS.search(text):
        return []
    spans = (_iban_at(text, match.start()) for match in _IBAN.finditer(text))
    return [span for span in spans if span]


def _iban_at(text: str, start: int) -> Span | None:
    """The IBAN that begins here, with or without spaces, if its length and checksum (ISO 13616) are right."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    match = re.compile(rf"(?:[A-Za-z0-9] ?){{{(length or 0) - 1}}}[A-Za-z0-9]\b").match(text, start) if length else None
    if not match or not match[0].isascii():
        return None
    value = match[0].replace(" ", "").upper()
    digits = "".join(str(int(character, 36)) for character in value[4:] + value[:4])
    return Span(*match.span(), value) if int(digits) % 97 == 1 else None


def _cards(text: str) -> list[Span]:
    return _numbers(text, _CARD, _luhn)


def _luhn(digits: str, _: str) -> bool:
    """ISO/IEC 7812-1: from the right, every second digit doubled, its digits added."""
    total = sum(int(digit) for digit in digits[-1::-2])
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0


def _addresses(text: str) -> list[Span]:
    spans = [Span(*match.span(), match[0]) for match in _IPV4.finditer(text)] if text.count(".") >= 3 else []
    if text.count(":") >= 3:
        spans += [Span(*match.span(), match[0].lower()) for match in _IPV6.finditer(text) if len(match[0]) >= 6]
    return sorted(span for span in spans if _identifies(span.value))


def _identifies(address: str) -> bool:
    """Loopback, netmasks and the like are everybody's."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast or address.startswith("255."))


def _social_security(text: str) -> list[Span]:
    return _numbers(text, _SSN, lambda digits, shown: digits[:3] not in ("000", "666") and digits[3:5] != "00")


def _phones(text: str) -> list[Span]:
    return _numbers(text, _PHONE, _is_phone)


def _is_phone(digits: str, shown: str) -> bool:
    """Groups as people write them; neither a date, nor a decimal number, nor a plain number of few digits."""
    number = shown.partition("x")[0]
    groups = re.findall(r"\d+", number)
    if len(groups) == 1:
        return 10 <= len(digits) <= 12 or (number.startswith("+") and 8 <= len(digits) <= 15)
    shortest = 1 if number.startswith("+") else 2
    spelled = 7 <= sum(map(len, groups)) <= 15 and all(len(group) >= shortest for group in groups[1:])
    decimal = len(groups) == 2 and "." in number
    return spelled and len(groups) <= 6 and not decimal and not _DATE.match(number)


def _numbers(text: str, pattern: re.Pattern[str], accept: Callable[[str, str], bool]) -> list[Span]:
    if not _SEVEN_DIGITS.search(text):
        return []
    found = ((match, "".join(filter(str.isdigit, match[0]))) for match in pattern.finditer(text))
    return [Span(*match.span(), digits) for match, digits in found if accept(digits, match[0])]


# Earlier rules win: a key may look like a number, an address in a URL like an e-mail address.
_RULES: tuple[tuple[str, Callable[[str], list[Span]]], ...] = (
    ("SECRET", _secrets),
    ("URL", _urls),
    ("EMAIL", _emails),
    ("IBAN", _ibans),
    ("CARD", _cards),
    ("IP", _addresses),
    ("SSN", _social_security),
    ("PHONE", _phones),
)
