"""Keys and secrets, on a set written for it; the values are made up, most of them put together here."""

import pytest

from theta_ml.privacy.redaction import Redactor

A = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9fG1hJ3kL5mN7pQ9rS1tU3v"
HEX = "0123456789abcdef" * 4

POSITIVES = {
    f"here is my key sk-{A[:48]}": f"sk-{A[:48]}",
    f"OPENAI_API_KEY=sk-proj-{A[:40]}": f"sk-proj-{A[:40]}",
    f"use sk-ant-api03-{A[:40]}-AA": f"sk-ant-api03-{A[:40]}-AA",
    f"stripe: sk_live_{A[:24]}.": f"sk_live_{A[:24]}",
    f"whsec_{A[:32]} signs the hook": f"whsec_{A[:32]}",
    f"git push with ghp_{A[:36]}": f"ghp_{A[:36]}",
    f"github_pat_{A[:22]}_{A[:40]}": f"github_pat_{A[:22]}_{A[:40]}",
    f"glpat-{A[:20]} works": f"glpat-{A[:20]}",
    f"xoxb-123456789012-{A[:24]}": f"xoxb-123456789012-{A[:24]}",
    "aws AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    f"aws_secret_access_key = {A[:40]}": A[:40],
    f"AIza{A[:35]} for maps": f"AIza{A[:35]}",
    f"ya29.{A[:60]}": f"ya29.{A[:60]}",
    f"hf_{A[:34]}": f"hf_{A[:34]}",
    f"npm_{A[:36]}": f"npm_{A[:36]}",
    f"pypi-AgE{A[:56]}": f"pypi-AgE{A[:56]}",
    f"SG.{A[:22]}.{A[:43]}": f"SG.{A[:22]}.{A[:43]}",
    f"bot 123456789:AA{A[:33]}": f"123456789:AA{A[:33]}",
    f"dop_v1_{HEX}": f"dop_v1_{HEX}",
    f"shpat_{HEX[:32]}": f"shpat_{HEX[:32]}",
    f"Authorization: Bearer {A[:30]}": A[:30],
    f"curl -H 'Authorization: Basic {A[:24]}=='": f"{A[:24]}==",
    f"eyJhbGciOiJIUzI1NiJ9.{A[:40]}.{A[:30]}": f"eyJhbGciOiJIUzI1NiJ9.{A[:40]}.{A[:30]}",
    'password = "hunter2hunter"': "hunter2hunter",
    "my password is Tr0ub4dor&3": "Tr0ub4dor&3",
    '{"client_secret": "9f8e7d6c5b4a3210"}': "9f8e7d6c5b4a3210",
    f"AccountKey={A[:60]}==": f"{A[:60]}==",
    "pwd: s3cr3tpass99": "s3cr3tpass99",
    "api key: 5f4dcc3b5aa765d61d83": "5f4dcc3b5aa765d61d83",
    "refresh_token=1a2b3c4d5e6f7g8h9i": "1a2b3c4d5e6f7g8h9i",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{A}\n-----END OPENSSH PRIVATE KEY-----": A,
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{A}\n-----END PGP PRIVATE KEY BLOCK-----": A,
    f"-----BEGIN RSA PRIVATE KEY-----\n{A} and the rest was cut": A,
    "postgresql://theta:pa55word@db.example/theta": "pa55word",
    "https://bob:s3cret@git.example.com/x.git": "s3cret",
    "redis://:p4ssw0rd@cache.example.com:6379/0": "p4ssw0rd",
    "ftp://anna:geheim1@ftp.debian.org/upload": "geheim1",
    "https://api.github.com/x?access_token=abc123def456": "abc123def456",
    f"https://www.google.com/callback#id_token={A[:30]}": A[:30],
    "https://example.com/reset?sid=99aabbcc11": "99aabbcc11",
    f"https://bucket.s3.amazonaws.com/a?X-Amz-Signature={HEX}": HEX,
    f"https://hooks.slack.com/services/T00000000/B00000000/{A[:24]}": A[:24],
    f"full-width ｓｋ－{A[:30]}": A[:30],
    f"ghp_{A[:10]}\u200b{A[10:36]} was split": f"{A[10:36]}",
}

NEGATIVES = [
    "git show 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "commit e83c5163316f89bfbde7d9ab23ca2e25604af290 fixes the token parser",
    "id 123e4567-e89b-12d3-a456-426614174000, correlation token 123e4567-e89b-12d3-a456-426614174000",
    "![](data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk)",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "version 2.6.32-24-generic, openssl 1.1.1k, python 3.11.7",
    "use token 3.11.7 of the parser; tokenizer v2.0.1",
    "the password is incorrect and the secret is out",
    "forgot my password yesterday at 10:30",
    "a token costs 0.002 dollars, 4096 tokens at most",
    "password: ${DB_PASSWORD_2} and api_key=<your-api-key-1>",
    "secret[0] = tokens[12:15]",
    "the file /etc/passwd has 42 lines",
    "basic python3 course, bearer of bad news 24/7",
    "sk-learn is short for scikit-learn",
    "task-based, risk-averse and desk-bound people of 2024",
    "isbn 978-3-16-148410-0, order no. 2021-000123-77",
    "MAC 00:1A:2B:3C:4D:5E, colour #a1b2c3",
    "https://docs.python.org/3/library/re.html?highlight=token#re.compile",
    "https://en.wikipedia.org/wiki/Secret_sharing",
    "AKIA is the prefix, hf_ and npm_ are others",
    "eyJ is how a JSON Web Token begins",
    "-----BEGIN PUBLIC KEY----- MFkwEwYH -----END PUBLIC KEY-----",
]


@pytest.mark.parametrize(("text", "secret"), POSITIVES.items(), ids=lambda value: value[:24])
def test_secrets_go(text: str, secret: str) -> None:
    redactor = Redactor()
    assert secret not in redactor.redact(text)
    assert set(redactor.counts) <= {"SECRET", "URL"}


@pytest.mark.parametrize("text", NEGATIVES, ids=lambda value: value[:24])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert Redactor().redact(text) == text
