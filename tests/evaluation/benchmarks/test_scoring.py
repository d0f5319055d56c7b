"""Which replies are right."""

import pytest

from tests.evaluation.benchmarks import files
from theta_ml.evaluation.benchmarks.report import share, standard_error
from theta_ml.evaluation.benchmarks.rows import boxed
from theta_ml.evaluation.benchmarks.tasks import program, same_expression, same_number


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("1000 and 7 is 1007", True), ("… #### 1,007", True), ("1007.00", True), ("1007 pears, or 3", False),
        ("-1007", False), ("", False), ("many", False), ("That is $1,007.", True),
    ],
)  # fmt: skip
def test_the_last_number_is_the_answer(reply: str, right: bool) -> None:
    assert same_number({"gold": "1007"}, [reply]) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("so $\\boxed{\\frac{1}{2}}$.", True), ("\\boxed{\\frac12}", True), ("\\boxed{1/2}", True),
        ("$\\dfrac{1}{2}$", True),
        ("\\boxed{\\frac{1}{3}}, no: \\boxed{0.5}", True), ("\\boxed{\\frac{1}{2}}, no: \\boxed{2}", False),
        ("\\boxed{\\frac{1}{2}", False), ("", False), ("\\boxed", False), ("\\fbox{1", False),
    ],
)  # fmt: skip
def test_the_boxed_expression_is_the_answer(reply: str, right: bool) -> None:
    assert same_expression({"gold": "\\frac{1}{2}"}, [reply]) == right


def test_boxes_hold_boxes() -> None:
    assert boxed("\\boxed{a} and \\boxed{\\sqrt{\\frac{1}{2}}} end") == "\\sqrt{\\frac{1}{2}}"


def test_a_program_is_the_prompt_completed_and_tested() -> None:
    doc = files.humaneval()[0]
    for completed in ("    return a + b\n", "\n    return a + b"):
        names: dict[str, object] = {}
        exec(program(doc, completed), names)
        assert "add" in names
    with pytest.raises(AssertionError):
        exec(program(doc, "    return a - b\n"), {})


def test_shares_and_their_errors() -> None:
    scores = [1.0, 0.0, 0.0, 1.0, 1.0]
    assert share(scores) == pytest.approx(0.6)
    assert standard_error(scores) == pytest.approx((0.6 * 0.4 / 4) ** 0.5)
    assert (share([]), share([1.0, float("nan")]), standard_error([1.0]), standard_error([1, float("nan")])) == (
        None,
    ) * 4
