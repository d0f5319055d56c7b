"""Street addresses: what streets are called in a dozen languages, with a number beside it; flats, postcodes."""

import re
from collections.abc import Iterator

from theta_ml.privacy.spans import Rule, Span, longest, whole

_AFTER = (
    r"(?:Street|Avenue|Road|Boulevard|Lane|Drive|Court|Place|Square|Terrace|Way|Highway|Freeway|Parkway|Circle|Close|Crescent"
    r"|Gardens|Grove|Alley|Plaza|Row|Mews|Expressway|Trail|Turnpike|Pike|(?:St|Ave|Rd|Blvd|Ln|Dr|Ct|Pl|Sq|Hwy|Pkwy|Cir)\b\.?)"
)
"""What follows a street's name in English."""
_ENDING = (
    r"(?:[Ss]tra(?:ß|ss)e|str\.|gasse|weg|platz|allee|gata|gatan|gate|vej|gade|vägen|veien|vegen|katu|tie|straat|laan|plein"
    r"|kuja|polku|gränd|plass|bakken|stræde|stien|utca|tér|tänav|maantee|út|põik|puiestee|[ ]u\.|[ ]tee)"
)
"""What a street's name ends in, or is followed by, in German, Dutch, Nordic languages, Finnish, Hungarian, Estonian."""
_BEFORE = (
    r"\b(?:[Rr]ue|Avenue|Av\.|Avda\.?|Avenida|Calle|Via|Viale|Vicolo|Piazza|Corso|Largo|Strada|Plaza|Paseo|Camino|Carrer"
    r"|Carretera|Rua|Travessa|Praça|Estrada|Boulevard|Bd\.|Chemin|Place|Quai|Impasse|Allée|Route|[Uu]l\.|[Uu]lica|[Aa]l\."
    r"|Οδός|Πλατεία)"
)
"""What stands before a street's name in the Romance languages, Polish, Greek."""
_STATES = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]"
    r"|T[NX]|UT|V[AT]|W[AIVY])"
)
_UNIT = r"\b(?i:(?:apt|apartment|suite|ste|flat|unit|p\.? ?o\.? box|postfach)\b\.?[ ]?#?[0-9]{1,6}[A-Za-z]?)\b"
_ALONE = (
    r"\b(?i:(?:apt|apartment|p\.? ?o\.? box|postfach)\b\.?[ ]?#?[0-9]{1,6}[A-Za-z]?"
    r"|suite[ ]#?(?!19|20)[0-9]{2,5}[A-Za-z]?)\b(?![.,]?[0-9*])"
)
"""Suites and units are of software, too."""
_ZIP = rf"\b{_STATES},?[ ][0-9]{{5}}(?:-[0-9]{{4}})?\b"
_BRITISH = r"\b[A-Z]{1,2}[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2}\b"
_TOLD_CODE = r"(?i:\b(?:zip(?:[ -]?code)?|(?:postal|post|pin)[ -]?code)(?: is|:)[ ]?)"
_MILITARY = r"\b(?:APO|FPO|DPO),? A[AEP][ ][0-9]{5}\b"
_LOWER = r"(?:street|avenue|road|boulevard|lane|ave|blvd)\b"
_HINT = rf"{_AFTER}|[a-z] {_LOWER}|{_ENDING}[ ][0-9]|{_BEFORE}[ ]|{_UNIT}|{_ZIP}|{_BRITISH}|{_TOLD_CODE}|{_MILITARY}"

_NUMBER = r"[0-9]{1,5}[A-Za-z]?(?:[-/][0-9]{1,4}[A-Za-z]?)?"
_LEFT = r"(?<![\w.,:/$€£#+-])(?:[0-9]{1,5}[ ](?=[0-9]))?"
_CAPITAL = r"(?![a-zß-öø-ÿ])[^\W\d_][\w'’.-]{0,30}"
_STEM = r"(?![a-zß-öø-ÿ])[^\W\d_][\w'’-]{0,30}?"
_SMALL = (
    r"(?:(?:de|du|des|la|las|le|les|los|del|della|dei|delle|di|da|do|dos|das|e|y|of|the|am|an|der|den|zum|van)[ ]"
    r"|[dl]['’])"
)
_NAMED = rf"{_CAPITAL}(?:[ ](?:{_SMALL}){{0,3}}{_CAPITAL})"
_PLACE = rf"(?:[,\s]{{1,4}}(?:{_CAPITAL}|\({_CAPITAL}\))){{1,6}}[,\s]{{1,3}}[0-9]{{4,6}}\b"
_TAIL = (
    rf"(?:[ ](?:North|South|East|West|[NS][EW])\b)?(?:[,\s]{{1,4}}(?:{_UNIT}|#[ ]?[0-9]{{1,5}}[A-Z]?\b)){{0,2}}"
    rf"(?:{_PLACE}|[,\s]{{1,3}}{_ZIP})?"
)
"""A flat; then a town and what else is written with a capital, if a postcode ends it."""
_GATED = tuple(
    (re.compile(hint), re.compile(pattern))
    for hint, pattern in (
        # 12 North Main Street, Apt. 5; 1532 20th Street
        (
            _AFTER,
            rf"{_LEFT}{_NUMBER}[ ]"
            rf"(?:(?:[0-9]{{1,3}}(?:st|nd|rd|th)|(?:{_SMALL}){{0,2}}{_CAPITAL})[ ]){{1,4}}?{_AFTER}(?![\w-]){_TAIL}",
        ),
        (
            rf"[a-z] {_LOWER}",
            rf"{_LEFT}[0-9]{{3,5}} (?!(?:more|other|new|mile|hour|minute|block)s?\b)[a-z]{{3,20}} {_LOWER}{_TAIL}",
        ),
        # Lange Straße 12, 6750 Koskikatu 25
        (
            rf"{_ENDING}[ ][0-9]",
            rf"{_LEFT}(?:{_NUMBER}[ ])?(?:{_CAPITAL}[ ])?{_STEM}[ -]?{_ENDING}[ ]{_NUMBER}\b{_TAIL}",
        ),
        # 1 Place de la Sorbonne, Via Roma 131, ul. Północna 5
        (
            rf"{_BEFORE}[ ]",
            rf"{_LEFT}(?:{_NUMBER},?[ ])?{_BEFORE}[ ](?:{_SMALL}){{0,3}}{_NAMED}{{0,3}}"
            rf"(?:,?[ ]{_NUMBER}\b)?{_TAIL}",
        ),
        # 5432 Anything 98, Suite 464
        (
            _UNIT,
            rf"{_LEFT}{_NUMBER}[ ]{_NAMED}{{0,4}}(?:[ ]{_NUMBER})?[,\s]{{1,4}}{_UNIT}{_TAIL}",
        ),
        (_UNIT, rf"{_ALONE}{_TAIL}"),
        (_ZIP, _ZIP),
        (_BRITISH, rf"(?!.{{2,5}}[0-9]GB\b){_BRITISH}"),
        (
            _MILITARY,
            rf"(?:\b(?:PSC|Unit|USNS|USS|USNV|USCGC)[ ]\w{{1,20}}(?:,?[ ]Box [0-9]{{1,5}})?\s{{1,2}})?{_MILITARY}",
        ),
    )
)
_CODE = re.compile(rf"{_TOLD_CODE}((?=[A-Z0-9 -]{{0,6}}[0-9])[A-Z0-9]{{2,6}}(?:[ -][A-Z0-9]{{2,4}})?)\b")


def _streets(text: str) -> Iterator[Span]:
    spans = [Span(*match.span(1), match[1]) for match in _CODE.finditer(text)]
    for hint, pattern in _GATED:
        if hint.search(text):
            spans += [whole(match) for match in pattern.finditer(text) if any(map(str.isdigit, match[0]))]
    return (Span(start, end, " ".join(value.lower().split())) for start, end, value in longest(spans))


ADDRESS = Rule("ADDRESS", _HINT, _streets)
