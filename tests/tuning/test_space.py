from pathlib import Path

import optuna
import pytest

from tests.tuning.small import HYPER
from theta_ml.tuning.space import Space, SpaceError, check_table, read_table


def test_the_recipe_as_it_is_lies_in_the_space_and_all_points_do() -> None:
    space = Space.around(read_table(), HYPER, rate=1e-3, grid=False)
    assert space.default == {"rate": 1e-3, "rows_per_step": 4.0, "warmup": 0.15, "weight_decay": 0.01}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(space.default)
    points = [space.suggest(study.ask()) for _ in range(50)]
    assert points[0] == space.default
    assert {point["rows_per_step"] for point in points} == {2.0, 4.0, 8.0}
    assert all(1e-3 / 4 <= point["rate"] <= 4e-3 for point in points)


def test_a_grid_has_the_points_of_the_table_and_the_recipes_own() -> None:
    table = check_table({"rate": {"times": True, "low": 0.5, "high": 2, "grid": [0.5, 2]}, "warmup": _range()}, "x")
    space = Space.around(table, HYPER, rate=1e-3, grid=True)
    assert space.grid == {"rate": [0.0005, 0.001, 0.002]}
    assert space.default == {"rate": 1e-3}
    with pytest.raises(SpaceError, match="a grid needs"):
        Space.around({"warmup": table["warmup"]}, HYPER, rate=1e-3, grid=True)


def _range() -> dict[str, float]:
    return {"low": 0.0, "high": 0.5}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("max_steps: {low: 1, high: 2}", "max_steps cannot be searched; choose among clip, rate"),
        ("rate: {low: 1}", "rate: write either low and high, or choices"),
        ("rate: {low: 2, high: 1}", "low must be the smaller"),
        ("rate: {low: 0, high: 1, log: true}", "log needs a range that begins above 0"),
        ("rate: {low: 0, hihg: 1}", "rate takes choices, grid, high, log, low, times"),
        ("rate: {low: a, high: 1}", "rate.low: Input should be a valid number"),
        ("- 1", "write one line a parameter"),
        ("rate: [", "is no YAML"),
    ],
)
def test_a_space_that_makes_no_sense_says_where(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(SpaceError, match=said) as raised:
        read_table(file)
    assert str(file) in str(raised.value)
