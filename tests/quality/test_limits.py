"""THETA_DATA_LIMITS: a team's file moves what it names, and a fault in it is told by name, field and choice."""

from pathlib import Path

import pytest

from theta_ml.quality import drift, validate
from theta_ml.quality.limits import read_limits
from theta_ml.quality.thresholds import DriftSpec, ValidateSpec
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import Inputs


def settings(folder: Path, text: str) -> Settings:
    (folder / "limits.yaml").write_text(text)
    return Settings(data_limits=folder / "limits.yaml")


def test_a_teams_limits_stand_in_the_specs_and_so_in_the_keys(tmp_path: Path) -> None:
    team = settings(tmp_path, "validate: {max_one_user: 0.5, max_echoes: 0}\ndrift: {history: 3}\n")
    judged = validate.resolve(ValidateSpec("2026-02", max_echoes=0.3), Inputs(), team, "run")
    assert (judged.max_one_user, judged.max_echoes, judged.max_same_reply) == (0.5, 0.3, 0.1)
    assert judged.suites
    assert drift.resolve(DriftSpec("2026-02"), Inputs(), team, "run") == DriftSpec("2026-02", history=3)
    assert drift.resolve(DriftSpec("2026-02"), Inputs(), Settings(), "run") == DriftSpec("2026-02")
    assert drift.STAGE.resolve is drift.resolve


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("profile: {}", ["no stage 'profile'", "validate, drift"]),
        ("validate: {max_ehoes: 0.1}", ["validate: no limit 'max_ehoes'", "max_echoes"]),
        ("drift: {accepted: true}", ["drift: no limit 'accepted'"]),
        ("validate: {max_echoes: much}", ["max_echoes is 'much'", "for example 0.1"]),
        ("validate: {min_conversations: 2.5}", ["min_conversations is 2.5", "a whole number"]),
        ("drift: {history: yes}", ["history is True"]),
        ("drift: {broken_rise: .nan}", ["broken_rise is nan"]),
        ("drift: {broken_rise: -1}", ["broken_rise is -1"]),
        ("drift: 3", ["drift: give lines such as `min_conversations: 20`"]),
        ("- validate", ["give lines such as"]),
        ("a: [", ["no YAML"]),
    ],
)
def test_a_wrong_file_is_told_by_name_field_and_choice(tmp_path: Path, text: str, named: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read_limits(settings(tmp_path, text))
    for part in ["THETA_DATA_LIMITS", "limits.yaml", *named]:
        assert part in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_limits(Settings(data_limits=tmp_path / "none.yaml"))
