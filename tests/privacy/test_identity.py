"""National ids by their check digits: published examples, and the same with one digit changed."""

import pytest

from theta_ml.privacy.redaction import Redactor


@pytest.mark.parametrize(
    "number",
    [
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2 55 08 14 168 025 38",
        "1 99 07 2A 005 083 91",
        "2341 2341 2346",
        "529.982.247-25",
        "811218-9876",
        "536-90-4399",
    ],
)
def test_ids_are_found_and_their_neighbours_are_not(number: str) -> None:
    redactor = Redactor()
    text = redactor.redact(f"it is {number}, I think")
    assert text in ("it is [NATIONAL_ID_1], I think", "it is [SSN_1], I think")


@pytest.mark.parametrize(
    "number",
    ["12345678A", "X1234567A", "RSSMRA85T10A562T", "529.982.247-24", "000-12-3456", "666-12-3456", "123-00-4567"],
)
def test_wrong_check_digits(number: str) -> None:
    redactor = Redactor()
    redactor.redact(f"it is {number}, I think")
    assert not redactor.counts["NATIONAL_ID"] + redactor.counts["SSN"]


def test_a_number_with_a_cue() -> None:
    assert Redactor().redact("Steuer-ID 86 095 742 719") == "Steuer-ID [NATIONAL_ID_1]"
    assert Redactor().redact("My passport number is C01X00T47.") == "My passport number is [NATIONAL_ID_1]."
    assert (
        Redactor().redact("my driver's license number is U62928788557186")
        == "my driver's license number is [NATIONAL_ID_1]"
    )
    assert Redactor().redact("a passport is required") == "a passport is required"
