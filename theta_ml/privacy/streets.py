"""Street addresses, by the words streets are called in a dozen languages and a number beside them."""

import re
from collections.abc import Iterator

from theta_ml.privacy.spans import Rule, Span, longest, whole

_AFTER = (
    r"Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Dr\.?|Court|Ct\.?|Place|Pl\.?|Square|Sq\.?"
    r"|Terrace|Way|Highway|Hwy\.?|Freeway|Parkway|Pkwy\.?|Circle|Cir\.?|Close|Crescent|Gardens|Grove|Alley|Plaza|Row|Mews"
    r"|Expressway|Trail|Turnpike|Pike"
)
"""What follows a street's name in English."""
_ENDING = (
    r"stra(?:ß|ss)e|str\.|gasse|weg|platz|allee|gata|gatan|gate|vej|gade|vägen|veien|vegen|katu|tie|straat|laan|plein"
    r"|kuja|polku|gränd|plass|alle|bakken|stræde|stien|utca|tér|tänav|maantee"
)
"""What a street's name ends in, or is followed by, in German, Dutch, the Nordic languages, Finnish, Hungarian, Estonian."""
_BEFORE = (
    r"Rue|Avenue|Av\.|Avda\.?|Avenida|Calle|C/|Via|Viale|Vicolo|Piazza|Corso|Largo|Strada|Plaza|Paseo|Camino|Carrer|Carretera"
    r"|Rua|Travessa|Praça|Estrada|Boulevard|Bd\.?|Chemin|Place|Quai|Impasse|Allée|Route|[Uu]l\.|[Uu]lica|[Aa]l\.|[Pp]l\.|Οδός|Πλατεία"
)
"""What stands before a street's name in the Romance languages, Polish, Greek."""
_NUMBER = r"[0-9]{1,5}[A-Za-z]?(?:[-/][0-9]{1,4}[A-Za-z]?)?"
_WORD = r"[^\W\d_][\w'’.-]{0,30}"
_UNIT = r"(?i:apt|apartment|suite|ste|flat|unit|building|bldg|floor|room|postfach|p\.? ?o\.? box)\b\.?[ ]?#?[0-9]{1,6}[A-Za-z]?"
_TAIL = rf"(?:[,\s]{{1,3}}{_UNIT}\b)?"

_ENGLISH = re.compile(
    rf"(?<![\w.,:/$€£-]){_NUMBER}[ ](?:(?:[NSEW]\.?|[NS][EW]|North|South|East|West)[ ])?"
    rf"(?:(?:[0-9]{{1,3}}(?:st|nd|rd|th)|(?!(?:{_AFTER})\b){_WORD})[ ]){{1,4}}?(?:{_AFTER})(?![\w-]){_TAIL}"
)
_GERMANIC = re.compile(
    rf"(?<![\w.,:/$€£-])(?:{_NUMBER}[ ])?(?:{_WORD}[ ])?[^\W\d_][\w'’-]{{0,30}}?[ -]?(?:{_ENDING})[ ]{_NUMBER}\b{_TAIL}"
)
_ROMANCE = re.compile(
    rf"(?<![\w.,:/$€£-])(?:{_NUMBER},?[ ])?\b(?:{_BEFORE})[ ](?:{_WORD}[ ]){{0,4}}?{_WORD}(?:,?[ ]{_NUMBER}\b)?{_TAIL}"
)
_UNITS = re.compile(rf"\b{_UNIT}\b")
_POSTCODE = re.compile(
    r"(?i)\b(?:zip|postal|post)[ -]?(?:code)?(?: is|:)\s?((?=[A-Z0-9 -]{0,6}[0-9])[A-Z0-9]{2,5}(?:[ -][A-Z0-9]{2,4})?)\b"
)
_MILITARY = re.compile(
    r"\b(?:PSC|Unit|USNS|USS|USNV|USCGC)[ ]\w{1,20}(?:, Box [0-9]{1,5})?\n?[ ]?(?:APO|FPO|DPO)[ ]A[AEP][ ][0-9]{5}"
)


def _streets(text: str) -> Iterator[Span]:
    spans = [whole(match) for match in _ENGLISH.finditer(text) if _capital(match[0])]
    spans += [whole(match) for match in _GERMANIC.finditer(text) if _capital(match[0])]
    spans += [whole(match) for match in _ROMANCE.finditer(text) if any(map(str.isdigit, match[0]))]
    spans += map(whole, [*_UNITS.finditer(text), *_MILITARY.finditer(text)])
    spans += [Span(*match.span(1), match[1]) for match in _POSTCODE.finditer(text)]
    return (Span(start, end, " ".join(value.lower().split())) for start, end, value in longest(spans))


def _capital(shown: str) -> bool:
    return any(word[0].isupper() for word in re.findall(r"[^\W\d_]+", shown))


ADDRESS = Rule("ADDRESS", "[0-9]", _streets)
