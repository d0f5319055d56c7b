"""Numbers of accounts and lines: IBANs, cards, phones."""

import re
from collections.abc import Callable, Iterator

from theta_ml.privacy.spans import Rule, Span

DIGITS_HINT = r"(?:[0-9][^0-9]{0,3}){6}[0-9]"
"""Seven digits, none far from the next: the least that a phone, a card or a national id has."""

_IBAN = re.compile(r"\b[A-Za-z]{2}[0-9]{2}(?=[ ]?[A-Za-z0-9])")
_ISSUER = re.compile(
    r"(?:[569][0-9]{11}|[456][0-9]{12}|3[0689][0-9]{12}|3[47][0-9]{13}|(?:1800|2131)[0-9]{11}|[2-6][0-9]{15,18})$"
)
"""First digits and lengths that issuers use (ISO/IEC 7812); neither a time in milliseconds nor most bar codes."""
_CARD = re.compile(r"(?<![0-9.+])[0-9](?:[ -]?[0-9]){11,18}(?![0-9])")
_PHONE = re.compile(
    r"(?<![\w.$€£#/:+=<>*-])(?<![0-9],)(?:\+|\(\+?(?=[0-9]{1,5}\)))?[0-9][0-9(). -]{5,22}[0-9](?:x[0-9]{1,6})?"
    r"(?![\w%]|[.,:/-][0-9]| ?[=*<])"
    r"(?! ?(?:[kKMGT]?i?[bB](?:ytes?)?|sectors?|blocks?|cylinders|inodes|files|ms|px|packets|dollars|euros|people)\b)"
)
"""Digits in groups, no part of a longer number, a sum, a price, a path; and no count of anything."""
_CALLED = re.compile(
    r"(?i)phone|\btel\b|telefon|call|mobile|cell|\bfax|contact|desk|office|\btext|sms|dial|reach|answer|number"
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}([ .-])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([ .-])[0-9]{1,2}\2(?:19|20)[0-9]{2}"
    r"|(?:19|20)[0-9]{2} ?- ?(?:19|20)[0-9]{2}"
)
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20,
    "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27,
    "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip


def spelled(text: str, pattern: re.Pattern[str], accept: Callable[[str, str], bool]) -> Iterator[Span]:
    """Matches whose digits, and form, are accepted; the digits are the value."""
    for match in pattern.finditer(text):
        digits = "".join(filter(str.isdigit, match[0]))
        if accept(digits, match[0]):
            yield Span(*match.span(), digits)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1: from the right, every second digit doubled, its digits added."""
    total = sum(int(digit) for digit in digits[-1::-2])
    return (total + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    spans = (_iban_at(text, match.start()) for match in _IBAN.finditer(text))
    return (span for span in spans if span)


def _iban_at(text: str, start: int) -> Span | None:
    """The IBAN that begins here, with or without spaces, if its length and checksum (ISO 13616) are right."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    match = re.compile(rf"(?:[A-Za-z0-9] ?){{{(length or 0) - 1}}}[A-Za-z0-9]\b").match(text, start) if length else None
    if not match:
        return None
    value = match[0].replace(" ", "").upper()
    digits = "".join(str(int(character, 36)) for character in value[4:] + value[:4])
    return Span(*match.span(), value) if int(digits) % 97 == 1 else None


def _cards(text: str) -> Iterator[Span]:
    return spelled(text, _CARD, _is_card)


def _is_card(digits: str, shown: str) -> bool:
    """An issuer's first digits, Luhn's check, and if in groups then as embossed (4-4-4-4, 4-6-5)."""
    groups = [len(group) for group in re.split("[ -]", shown)]
    embossed = len(groups) == 1 or (
        groups[0] == 4 and all(size in (4, 5, 6) for size in groups[1:-1]) and groups[-1] >= 3
    )
    return embossed and bool(_ISSUER.match(digits)) and luhn(digits) and len(set(digits)) > 1


def _phones(text: str) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        digits = "".join(filter(str.isdigit, match[0]))
        if _is_phone(digits, match[0]) or (
            _may_be_phone(digits, match[0]) and _CALLED.search(text, max(0, match.start() - 40), match.start())
        ):
            yield Span(*match.span(), digits)


def _may_be_phone(digits: str, shown: str) -> bool:
    """Groups as people write them; neither a date nor a decimal number."""
    number = shown.partition("x")[0]
    groups = re.findall(r"[0-9]+", number)
    shortest = 1 if number.startswith("+") else 2
    fits = 7 <= sum(map(len, groups)) <= 15 and all(len(group) >= shortest for group in groups[1:])
    decimal = len(groups) == 2 and "." in number
    return fits and len(groups) <= 6 and not decimal and not _DATE.search(number)


def _is_phone(digits: str, shown: str) -> bool:
    """Whether it is one whatever stands before it: not a count, a range of ports, a version."""
    number = shown.partition("x")[0]
    sizes = [len(group) for group in re.findall(r"[0-9]+", number)]
    if not _may_be_phone(digits, shown):
        return False
    if number.startswith(("+", "(")) or (number.startswith("0") and len(digits) >= 9):
        return True
    if sizes[0] == 4 and number.startswith(("19", "20")):
        return False
    if len(sizes) == 1:
        return (len(digits) == 10 and digits[0] > "1") or (len(digits) == 11 and digits[0] == "1")
    if " - " in number or ("-" in number and max(sizes) > 4 and not number.startswith("0")):
        return False  # a difference
    if "." in number:
        return sizes in ([3, 3, 4], [1, 3, 3, 4], [2, 2, 2, 2, 2])
    return (
        sizes == [3, 4]
        or (len(sizes) == 2 and number.startswith("0"))
        or len(digits) >= 9
        or (len(sizes) >= 3 and len(digits) >= 8)
    )


IBAN = Rule("IBAN", r"[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{2}", _ibans)
CARD = Rule("CARD", DIGITS_HINT, _cards)
PHONE = Rule("PHONE", DIGITS_HINT, _phones)
