"""National ids: those that check digits or a form of their own tell from other numbers, others by a cue."""

import re
from collections.abc import Iterator
from datetime import date

from theta_ml.privacy.numbers import DIGITS_HINT, luhn, spelled
from theta_ml.privacy.spans import Rule, Span, longest

_SSN = re.compile(r"(?<![\w-])[0-9]{3}([- ])[0-9]{2}\1[0-9]{4}(?![\w-])")
_UK_NINO = re.compile(r"\b(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:[0-9]{2} ?){3}[A-D]\b")
_SPANISH = re.compile(r"\b([0-9]{8}|[XYZ]-?[0-9]{7})-?([A-Z])\b")
_ITALIAN = re.compile(r"\b[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]\b")
_FRENCH = re.compile(
    r"(?<![\w.-])[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB])"
    r" ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?![\w-])"
)
_GERMAN = re.compile(r"(?<![\w.-])[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}(?![\w-])")
_GERMAN_CUE = re.compile(r"(?i)steuer|IdNr|\btax id")
_INDIAN = re.compile(r"(?<![\w.-])[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}(?![\w-]| ?[0-9])")
_BRAZILIAN = re.compile(r"(?<![\w.-])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![\w-])")
_SWEDISH = re.compile(r"(?<![\w-])(?:19|20)?[0-9]{6}[-+][0-9]{4}(?![\w-])")
_DOCUMENT = re.compile(
    r"(?i)\b(?:passport|(?:driver'?s?|driving)[ ]licen[cs]e|national[ ]id|identity[ ]card|ssn"
    r"|social[ ]security|tax[ ]id)"
    r"(?:[ ](?:number|no\.?|#))?(?:[ ]is)?\s?[:#]?\s?((?=[A-Z]{0,3}-?[0-9])[A-Z0-9-]{6,18})\b"
)
_HINT = (
    rf"{DIGITS_HINT}|[A-Z]{{6}}[0-9LMNP-V]{{2}}|[A-Z][A-Z] ?[0-9]{{2}} ?[0-9]{{2}}"
    r"|(?i:passport|licen[cs]e|ssn|national id|identity card|social security|tax id)"
)


def _social_security(text: str) -> Iterator[Span]:
    """The numbers the US Social Security Administration and the IRS (9xx) give out: no group is all zeros."""
    return spelled(
        text, _SSN, lambda digits, _: digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"
    )


def _ids(text: str) -> list[Span]:
    spans = [Span(*match.span(), re.sub("[ -]", "", match[0])) for match in _UK_NINO.finditer(text)]
    spans += [Span(*match.span(), match[0]) for match in _SPANISH.finditer(text) if _spanish(match[1], match[2])]
    spans += [Span(*match.span(), match[0]) for match in _ITALIAN.finditer(text) if _italian(match[0])]
    spans += [Span(*match.span(), match[0]) for match in _FRENCH.finditer(text) if _french(match[0])]
    if _GERMAN_CUE.search(text):
        spans += spelled(text, _GERMAN, lambda digits, _: _german(digits))
    spans += spelled(text, _INDIAN, lambda digits, _: _verhoeff(digits))
    spans += spelled(text, _BRAZILIAN, lambda digits, _: _brazilian(digits))
    spans += spelled(text, _SWEDISH, lambda digits, _: _swedish(digits))
    spans += [Span(*match.span(1), match[1]) for match in _DOCUMENT.finditer(text)]
    return longest(spans)


def _spanish(number: str, letter: str) -> bool:
    """DNI and NIE: the number modulo 23 gives the letter; a NIE's X, Y, Z stand for 0, 1, 2."""
    digits = number.replace("-", "").translate({ord("X"): "0", ord("Y"): "1", ord("Z"): "2"})
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == letter


_ITALIAN_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _italian(code: str) -> bool:
    """Codice fiscale (D.M. 23/12/1976): the places' values added, modulo 26, give the last letter."""
    values = [int(each) if each.isdigit() else ord(each) - ord("A") for each in code[:15]]
    total = sum(_ITALIAN_ODD[value] if place % 2 == 0 else value for place, value in enumerate(values))
    return chr(ord("A") + total % 26) == code[15]


def _french(shown: str) -> bool:
    """NIR: its last two digits are 97 less the rest modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    number = shown.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return int(number[13:]) == 97 - int(number[:13]) % 97


def _german(digits: str) -> bool:
    """Steuer-ID: ISO 7064 Mod 11,10, and one of its first ten digits two or three times."""
    product = 10
    for digit in digits[:10]:
        product = (((product + int(digit)) % 10 or 10) * 2) % 11
    repeated = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return (
        (11 - product) % 10 == int(digits[10]) and repeated[-1] in (2, 3) and repeated[:-1] == [1] * (len(repeated) - 1)
    )


_DIHEDRAL = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def _verhoeff(digits: str) -> bool:
    """Aadhaar's check digit: J. Verhoeff, Error Detecting Decimal Codes (1969), over the dihedral group of order 10."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_DIHEDRAL[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0


def _brazilian(digits: str) -> bool:
    """CPF: two check digits, weighted sums modulo 11."""
    for length in (9, 10):
        total = sum(int(digit) * (length + 1 - place) for place, digit in enumerate(digits[:length]))
        if total * 10 % 11 % 10 != int(digits[length]):
            return False
    return len(set(digits)) > 1


def _swedish(digits: str) -> bool:
    """Personnummer: a date of birth (a coordination number's day is 60 more), and Luhn over the last ten digits."""
    try:
        date(2000, int(digits[-8:-6]), int(digits[-6:-4]) % 60)
    except ValueError:
        return False
    return luhn(digits[-10:])


SSN = Rule("SSN", DIGITS_HINT, _social_security)
NATIONAL_ID = Rule("NATIONAL_ID", _HINT, _ids)
