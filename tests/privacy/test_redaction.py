"""What has a form is found, on real benchmarks too; what merely looks like it stays."""

from time import process_time

import pytest

from theta_ml.privacy.redaction import Redactor


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to Ann.Lee+x@mail.example.co.uk.", "write to [EMAIL_1]."),
        ("a@b.de4111 1111 1111 1111", "[EMAIL_1][CARD_1]"),
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


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mail ann\u200b.lee@exam\u00adple.com now", "mail [EMAIL_1] now"),
        ("mail ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ now", "mail [EMAIL_1] now"),
        ("card ４１１１ １１１１ １１１１ １１１１", "card [CARD_1]"),
        ("card 4111\u00a01111\u20111111\u20131111", "card [CARD_1]"),
        ("card 4111\u00a01111\u00a01111\u00a01111", "card [CARD_1]"),
        ("card 41\u200d11111\ufeff111111111", "card [CARD_1]"),
        ("call 202\u2011555\u20110117", "call [PHONE_1]"),
        ("call ٠٢٠٢٥٥٥٠١١٧ please", "call [PHONE_1] please"),
        ("SSN 460\u201389\u20139847\u200b!", "SSN [SSN_1]\u200b!"),
        ("\u202eIP 203.0\u2060.113.9\u202c", "\u202eIP [IP_1]\u202c"),
        ("👩\u200d👩\u200d👧 a@b.de 👍🏽 שלום مرحبا c@d.de", "👩\u200d👩\u200d👧 [EMAIL_1] 👍🏽 שלום مرحبا [EMAIL_2]"),
        ("lone \ud800 surrogate a@b\u200b.de", "lone \ud800 surrogate [EMAIL_1]"),
    ],
)  # fmt: skip
def test_look_alikes_and_invisible_characters(text: str, redacted: str) -> None:
    assert Redactor().redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("My name is Ann Lee. Hi Bob, I'm Zoë!", "My name is [NAME_1]. Hi [NAME_2], I'm [NAME_3]!"),
        ("my name is anna", "my name is [NAME_1]"),
        ("my name is on the list", "my name is on the list"),
        ("I'm American, I'm happy, I'm OK, I'm Canadian.", "I'm American, I'm happy, I'm OK, I'm Canadian."),
        ("Dear Mrs. Anna van der Berg-Löw,", "Dear Mrs. [NAME_1],"),
        ("Dr. J. R. Smith and Prof. Ōe Kenzaburō agree", "Dr. [NAME_1] and Prof. [NAME_2] agree"),
        ("Kind regards,\nJosé Núñez", "Kind regards,\n[NAME_1]"),
        ("Thanks, I will", "Thanks, I will"),
        ("This is Great. Hello World! Hi There.", "This is Great. Hello World! Hi There."),
        ("I live at 1532 20th Street, Apt. 5, Oakland, CA 94607.", "I live at [ADDRESS_1]."),
        ("wohne Lange Straße 12 und Rue de la Paix 3", "wohne [ADDRESS_1] und [ADDRESS_2]"),
        ("10 Downing Street, London SW1A 2AA", "[ADDRESS_1], London [ADDRESS_2]"),
        ("2 Ways to Drive 5 Places in 3 Courts", "2 Ways to Drive 5 Places in 3 Courts"),
        ("my P4 2GB box, a 500 MB disk, 4096 2006-02-19 04:30", "my P4 2GB box, a 500 MB disk, 4096 2006-02-19 04:30"),
        ("6881-6999, kernel 2.6.28.10, 137027837952 bytes", "6881-6999, kernel 2.6.28.10, 137027837952 bytes"),
        ("30000-4000=26000, (50000 - 1000), 200 - 35 - 141", "30000-4000=26000, (50000 - 1000), 200 - 35 - 141"),
        ("(202-555-0117) or (+44) 20 7946 0123", "([PHONE_1]) or [PHONE_2]"),
        ("at 11 am tomorrow, 2 for 1234567 points", "at 11 am tomorrow, 2 for 1234567 points"),
        ("my site is http://ann.example.net/~ann and www.lee.de.", "my site is [URL_1] and [URL_2]."),
        ("see https://help.ubuntu.com/community/Wine (or https://x.io/a_(b))",
         "see https://help.ubuntu.com/community/Wine (or [URL_1])"),
    ],
)  # fmt: skip
def test_names_streets_and_what_is_neither(text: str, redacted: str) -> None:
    assert Redactor().redact(text) == redacted


def test_a_name_once_told_goes_wherever_it_stands() -> None:
    redactor = Redactor()
    assert redactor.redact("Is Anna in?") == "Is Anna in?"  # nobody has said yet that it is a name
    assert redactor.redact("My name is Anna Berg.") == "My name is [NAME_1]."
    assert redactor.redact("So Anna, is Berg your husband's name? annal, Bergamo") == (
        "So [NAME_1], is [NAME_1] your husband's name? annal, Bergamo"
    )
    assert redactor.redact("No, he is Mr. Holm") == "No, he is Mr. [NAME_2]"


HOSTILE = (
    *("1 ", "a", "1.1.", "(((", "a:b@", "0-", "eyJ-", "DE12", "password ", "password=", "a.", "1:", "x://a:"),
    *("x://a?token=",),
    *("www.", "Mr. A ", "my name is A ", "Anna von ", "12 Main ", "12 A ", "1 rue de la ", "Apt. 1, ", "\u200b1"),
    *("Straße 1 ",),
    *("zip: 1", "AAAAAA", "passport ", "sk-", "-----BEGIN PRIVATE KEY-----", "[EMAIL_1] ", "I'm A.", "12 de ", "A "),
    *("1 A-",),
    *("http://a.b/(", "Dear A, ", "@a.", "a@", "::", "٠ ", "Apt 1 A "),
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    """Sixteen times the text takes at most 40 times as long: quadratic time would be 256 times."""
    short, long = (min(_seconds(piece * (size // len(piece))) for _ in range(2)) for size in (4_000, 64_000))
    assert long < 40 * short + 0.02


def _seconds(text: str) -> float:
    started = process_time()
    Redactor().redact(text)
    return process_time() - started
