"""Keys, tokens, passwords: what opens something."""

import re
from collections.abc import Iterator

from theta_ml.privacy.spans import Rule, Span, whole

# Forms that their issuers document, each with a prefix of its own.
_ISSUED = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|\b(?:sk-[A-Za-z0-9_-]{20,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"
    r"|gh[opsru]_[A-Za-z0-9]{30,}|github_pat_\w{20,}|glpat-[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{50,}|dop_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,60}|hvs\.[A-Za-z0-9_-]{24,}|dapi[a-f0-9]{32}|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{50,}|eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{5,})"
)
_ISSUED_HINT = (
    r"PRIVATE KEY|sk-|[prs]k_|whsec_|gh[opsru]_|_pat_|glpat-|xox|AKIA|ASIA|AIza|ya29|GOCSPX|hf_|npm_|pypi-|dop_v1|"
    r"shp[acps]|SG\.|hvs\.|dapi|:AA|AGE-SECRET|eyJ"
)
# A value that is assigned to a telling word, and looks like no word itself: it has a digit and a letter.
_ASSIGNED = re.compile(
    r"(?i)(?<![^\W_])(?:password|passwd|passphrase|passcode|pwd|secret(?:[ _-]?(?:access[ _-]?)?key)?|account[ _-]?key"
    r"|(?:api|access|private|auth)[ _-]?key|(?:access|auth|bearer|refresh|api)?[ _-]?token|bearer|basic)"
    r"(?:[\"'`]?\s{0,5}(?:[:=]|=>)\s{0,5}|\s{1,5}is\s{1,5}|\s{1,5})[\"'`]?(?:bearer |basic )?"
    r"((?=[^\s\"'`]{0,100}\d)(?=[^\s\"'`]{0,100}[A-Za-z])[^\s\"'`,;]{8,})"
)
_ASSIGNED_HINT = r"(?i:passw|passphrase|passcode|pwd|secret|[_ -]?key|token|bearer|basic)"
# What follows such a word without being its value: addresses, versions, UUIDs, calls, file names, placeholders.
_NO_SECRET = re.compile(
    r"(?i)[a-z]+://|\[|[$<{(]|v?\d+(?:\.\d+)+\W?$|[\w./-]+\.(?:py|js|ts|c|h|txt|conf|cfg|ini|log|html?|php|deb|ko)\W?$"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\W?$|\d+[a-z]{1,3}\W?$|\w+\("
)


def _secrets(text: str) -> Iterator[Span]:
    yield from map(whole, _ISSUED.finditer(text))
    for match in _ASSIGNED.finditer(text):
        if not _NO_SECRET.match(match[1]):
            yield Span(*match.span(1), match[1])


SECRET = Rule("SECRET", f"{_ISSUED_HINT}|{_ASSIGNED_HINT}", _secrets)
