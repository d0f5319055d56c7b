"""Addresses on the net: URLs, mail, IP.

Which URLs go: those with a login or a key in them, and all whose host is not known to be public. A person's own site,
a shared file, an invitation or a paste leads to someone; the benchmark's 37 spans are all of that sort ("My website
is ..."). A link to documentation, an encyclopaedia or a bug tracker leads to nobody and is half of a technical
answer's worth: hosts of PUBLIC keep theirs, unless the path is a user's page.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address

from theta_ml.privacy.spans import Rule, Span
from theta_ml.privacy.words import PUBLIC

_URL = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s<>\"]+|(?<![\w.@/-])www\.[\w-]+\.[^\s<>\"]+", re.IGNORECASE
)
_HOST = re.compile(r"(?:[^/]*://)?(?:[^/@?#]{0,200}@)?([^/:?#]+)")
_LOGIN = re.compile(r"[^/]*://[^/@:]*:[^/@]+@")
_KEY_PARAMETER = re.compile(
    r"[?&;#](?:\w{1,20}[_-])?(?:token|key|api_?key|auth|code|pwd|password|passwd|secret|sig|signature|session_?id|sid)=[^\s&]{6}",
    re.IGNORECASE,
)
_OWN_PAGE = re.compile(
    r"/~|/(?:u|user|users|people|profile|member|members|drive|forms|maps)/|[?&](?:user|uid)=", re.IGNORECASE
)
_OWN_HOST = re.compile(
    r"(?:^|\.)(?:paste|pastebin|people|blogs?)\.|(?:drive|docs|sites|calendar|meet|mail|plus|photos|groups)\.google\.",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![^\W\d_])")
_IPV4 = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_VERSIONED = re.compile(r"(?i)\b(?:version|ver|v|rev|release|firmware|kernel|build|driver)[ .:]{1,2}$")
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}(?:(?<=:)(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![\w:])"
)


def _urls(text: str) -> Iterator[Span]:
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?'*_\\")
        while url.endswith((")", "]")) and url.count(url[-1]) > url.count("(["[url[-1] == "]"]):
            url = url[:-1]
        if not url.endswith("/" * 2) and not _is_public(url):
            yield Span(match.start(), match.start() + len(url), url)


def _is_public(url: str) -> bool:
    """Whether it is anybody's: no login, no key, no user's page, on a host of PUBLIC."""
    host = _HOST.match(url)
    if (
        not host
        or _LOGIN.match(url)
        or _KEY_PARAMETER.search(url)
        or _OWN_PAGE.search(url)
        or _OWN_HOST.search(host[1])
    ):
        return False
    labels = host[1].lower().split(".")
    return host[1].startswith("127.") or any(".".join(labels[-count:]) in PUBLIC for count in (1, 2, 3))


def _emails(text: str) -> Iterator[Span]:
    return (Span(*match.span(), match[0].lower()) for match in _EMAIL.finditer(text))


def _addresses(text: str) -> Iterator[Span]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            if _identifies(match[0]) and not _VERSIONED.search(text, max(0, match.start() - 12), match.start()):
                yield Span(*match.span(), match[0].lower())


def _identifies(address: str) -> bool:
    """Loopback, netmasks and the like are everybody's."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return not (
        parsed.is_loopback
        or parsed.is_unspecified
        or parsed.is_multicast
        or address.startswith("255.")
        or len(address) < 6
    )


URL = Rule("URL", r"(?i:://|www\.)", _urls)
EMAIL = Rule("EMAIL", "@", _emails)
IP = Rule("IP", r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9a-fA-F]{0,4}:[0-9a-fA-F]{0,4}:", _addresses)
