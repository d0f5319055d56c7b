from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from theta_ml.evaluation import evaluate
from theta_ml.evaluation.evaluate import EvaluateSpec
from theta_ml.evaluation.thresholds import SliceLimits, Thresholds, read_thresholds
from theta_ml.registry import decide
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import Inputs


def _read(folder: Path, text: str) -> Thresholds:
    (folder / "gate.yaml").write_text(text)
    return read_thresholds(Settings(gate=folder / "gate.yaml"))


def test_without_a_file_the_defaults_hold() -> None:
    assert read_thresholds(Settings()) == Thresholds()


def test_a_file_moves_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    found = _read(tmp_path, "min_effect: 0.02\nmax_golden_lost: 0\n")
    assert found == Thresholds(min_effect=0.02, max_golden_lost=0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("min_efect: 0.01", ["'min_efect'", "min_effect", "slice_alpha"]),
        ("min_effect: much", ["min_effect is 'much'", "give a number", "0.00"]),
        ("min_effect: .nan", ["min_effect is nan"]),
        ("max_toxic_share: .inf", ["max_toxic_share is inf"]),
        ("min_effect: -0.1", ["min_effect is -0.1"]),
        ("min_effect: 2", ["min_effect", "share"]),
        ("slice_alpha: 1.5", ["slice_alpha", "0.05 is usual"]),
        ("min_new_conversations: 2.5", ["min_new_conversations is 2.5", "a whole number"]),
        ("min_new_conversations: yes", ["min_new_conversations is True"]),
        ("- min_effect", ["min_effect: 0.0"]),
        ("a: [", ["no YAML"]),
        ("", ["give lines such as"]),
    ],
)
def test_a_wrong_file_is_told_by_name_field_and_choice(tmp_path: Path, text: str, named: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        _read(tmp_path, text)
    for part in ["THETA_GATE", "gate.yaml", *named]:
        assert part in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_thresholds(Settings(gate=tmp_path / "none.yaml"))


def test_a_limit_that_is_no_number_is_refused_wherever_it_comes_from() -> None:
    for field in fields(Thresholds):
        for strange in (float("nan"), None):
            limits: dict[str, Any] = {field.name: strange}
            with pytest.raises(ValueError, match=field.name):
                Thresholds(**limits)


def test_a_teams_limits_stand_in_the_specs_and_so_in_the_keys(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "gate.yaml").write_text("{min_effect: 0.02, slice_tolerance: 0.04}")
    settings = Settings(gate=tmp_path / "gate.yaml", database_url=SecretStr(database_url))
    spec = decide.resolve(decide.STAGE.spec("2026-02"), Inputs(), settings, "run")
    assert spec.thresholds == Thresholds(min_effect=0.02, slice_tolerance=0.04)
    own = decide.STAGE.spec("2026-02", thresholds=Thresholds(min_effect=0.03))
    assert decide.resolve(own, Inputs(), settings, "run").thresholds.min_effect == 0.03
    scored = evaluate.resolve(EvaluateSpec("2026-02"), Inputs(), settings, "run")
    assert scored.slices == SliceLimits(20, 0.04)
    given = EvaluateSpec("2026-02", slices=SliceLimits(30))
    assert evaluate.resolve(given, Inputs(), settings, "run").slices == SliceLimits(30)
