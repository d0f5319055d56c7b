"""What has a form is found, on real benchmarks too; what merely looks like it stays."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from theta_ml.privacy.redaction import Redactor

GOLD = Path(__file__).parents[3] / "shared" / "data" / "pii" / "presidio_synth_v2.jsonl.gz"
KINDS = {
    "CREDIT_CARD": "CARD", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP", "US_SSN": "SSN",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to Ann.Lee+x@mail.example.co.uk.", "write to [EMAIL_1]."),
        ("a@b.de or c@d.de or A@B.de", "[EMAIL_1] or [EMAIL_2] or [EMAIL_1]"),
        ("card 4111 1111 1111 1111, not 4111 1111 1111 1112", "card [CARD_1], not 4111 1111 1111 1112"),
        ("IBAN DE89 3704 0044 0532 0130 00 is mine", "IBAN [IBAN_1] is mine"),
        ("IBAN DE89370400440532013001 is wrong", "IBAN DE89370400440532013001 is wrong"),
        ("ping 203.0.113.9 and 2001:db8::8a2e:370:7334", "ping [IP_1] and [IP_2]"),
        ("ping 127.0.0.1 with 255.255.255.0, version 3.11", "ping 127.0.0.1 with 255.255.255.0, version 3.11"),
        ("call +44 20 7946 0123, (202) 555-0117 or 0490 75 40 81", "call [PHONE_1], [PHONE_2] or [PHONE_3]"),
        ("git clone https://bob:s3cret@git.example/x.git now", "git clone [URL_1] now"),
        ("see https://example.org/a?b=1&access_token=abc123def", "see [URL_1]"),
        ("see https://example.org/a?b=1#c", "see https://example.org/a?b=1#c"),
        ("key sk-abcdEFGHijklMNOPqrstUVWX or AKIAIOSFODNN7EXAMPLE", "key [SECRET_1] or [SECRET_2]"),
        ('password = "hunter2hunter" ok', 'password = "[SECRET_1]" ok'),
        ("my password is incorrect", "my password is incorrect"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nab\n-----END RSA PRIVATE KEY-----.", "[SECRET_1]."),
        ("on 2026-02-03 at 10:30, 1,234,567 paid $12,345.67", "on 2026-02-03 at 10:30, 1,234,567 paid $12,345.67"),
        ("1999-2004, pages 120-134, call 911", "1999-2004, pages 120-134, call 911"),
        ("SSN 460-89-9847", "SSN [SSN_1]"),
        ("Ünïcödé ☎ no digits", "Ünïcödé ☎ no digits"),
        ("", ""),
    ],
)  # fmt: skip
def test_typed_placeholders(text: str, redacted: str) -> None:
    assert Redactor().redact(text) == redacted


def test_the_same_value_keeps_its_number_within_a_conversation() -> None:
    redactor = Redactor()
    assert redactor.redact("I am a@b.de") == "I am [EMAIL_1]"
    assert redactor.redact("Not c@d.de?") == "Not [EMAIL_2]?"
    assert redactor.redact("No, A@b.de") == "No, [EMAIL_1]"
    assert redactor.counts["EMAIL"] == 3
    assert Redactor().redact("c@d.de") == "[EMAIL_1]"


def test_redacting_twice_changes_nothing() -> None:
    once = Redactor().redact("a@b.de 4111 1111 1111 1111 +44 20 7946 0123 203.0.113.9 token: abcd1234efgh")
    assert Redactor().redact(once) == once


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        *("1 " * 50_000, "a" * 200_000 + "@", "1.1." * 50_000, "(((" * 50_000 + "1", "a:b@" * 50_000, "0-" * 90_000),
        *("eyJ" + "a" * 200_000, "eyJ-" * 50_000, "DE12" * 50_000, "password " * 20_000, "password=" * 20_000),
        *("a." * 100_000 + "@" + "b." * 100_000, "password is " + "a" * 200_000, "1:" * 50_000, "a." * 90_000 + "://"),
        *("x://a?token=" * 10_000, "x://" + "a:" * 50_000, "://" + "a" * 100_000 + "?" + "token" * 20_000),
    ],
    ids=lambda text: text[:8],
)
def test_hostile_texts_take_little_time(text: str) -> None:
    Redactor().redact(text)


@pytest.mark.skipif(not GOLD.exists(), reason=f"no benchmark at {GOLD}")
def test_recall_on_gold_spans() -> None:
    found: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    extra = Counter[str]()
    for line in gzip.decompress(GOLD.read_bytes()).splitlines():
        record = json.loads(line)
        redactor = Redactor()
        redacted = redactor.redact(record["full_text"])
        spans = Counter[str]()
        for span in record["spans"]:
            kind = KINDS.get(span["entity_type"])
            if kind:
                spans[kind] += 1
                found[kind] += span["entity_value"] not in redacted
        gold += spans
        extra += Counter({kind: redactor.counts[kind] for kind in KINDS.values()}) - spans
    recall = {kind: found[kind] / gold[kind] for kind in gold}
    print(recall, dict(extra))  # noqa: T201
    assert recall == pytest.approx(dict.fromkeys(recall, 1.0), abs=0.02)
    assert extra.total() < 80  # mostly two numbers of an address that stand beside each other, taken for a phone
