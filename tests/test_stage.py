from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Local, Result, Stage, StageFailed, Work, content_key, parse_spec, run_stage


@dataclass(frozen=True)
class CountSpec:
    month: str
    step: int = 1


@dataclass(frozen=True)
class Count:
    number: int


def count(spec: CountSpec, inputs: Inputs, work: Work) -> Count:
    before = inputs.optional("count", Count)
    (work.path / "ran.txt").write_text(work.run_id)
    return Count((before.number if before else 0) + spec.step)


COUNT = Stage(name="count", version=1, spec=CountSpec, function=count)


def run(home: Path, stage: Stage[CountSpec] = COUNT, run_id: str = "r1", step: int = 1, *uris: str) -> Result:
    with Events("count") as events:
        return run_stage(stage, CountSpec("2026-01", step), list(uris), run_id, Settings(home=home), events)


def test_a_rerun_finds_what_was_made(tmp_path: Path) -> None:
    first, again = run(tmp_path), run(tmp_path, run_id="r2")
    assert not first.cached
    assert again == Result(first.uri, first.key, cached=True)


@dataclass(frozen=True)
class ReadSpec:
    month: str
    folder: Local = ""
    content: str = ""


def test_where_a_machine_keeps_something_is_in_no_key() -> None:
    stage = Stage(name="read", version=1, spec=ReadSpec, function=lambda spec, inputs, work: Count(1))

    def key(folder: str, content: str) -> str:
        return content_key(stage, ReadSpec("2026-01", folder, content), Inputs(), "r1")

    assert key("/here", "a") == key("/there", "a") != key("/here", "b")


def test_the_key_follows_version_spec_and_inputs(tmp_path: Path) -> None:
    first = run(tmp_path)
    others = {
        run(tmp_path, replace(COUNT, version=2)).key,
        run(tmp_path, COUNT, "r1", 2).key,
        run(tmp_path, COUNT, "r1", 1, first.uri).key,
    }
    assert len(others | {first.key}) == 4


def test_several_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = run(tmp_path), run(tmp_path, COUNT, "r1", 2)
    several = replace(COUNT, function=lambda spec, inputs, work: Count(len(inputs.several("count"))))
    found = {run(tmp_path, several, "r1", 1, *uris).key for uris in ([one.uri], [two.uri], [one.uri, two.uri])}
    assert len(found) == 3
    assert run(tmp_path, several, "r1", 1, one.uri, one.uri).key == run(tmp_path, several, "r1", 1, one.uri).key
    with pytest.raises(StageFailed, match="2 artifacts of count were given"):
        run(tmp_path, replace(COUNT, version=3), "r1", 1, one.uri, two.uri)


def test_a_stage_with_effects_runs_again_for_each_run(tmp_path: Path) -> None:
    effects = replace(COUNT, effects=True)
    assert run(tmp_path, effects, "r1").key != run(tmp_path, effects, "r2").key
    assert not run(tmp_path, effects, "r1").cached


def test_what_the_world_decides_is_part_of_the_key(tmp_path: Path) -> None:
    stages = [replace(COUNT, resolve=lambda spec, *_, found=found: replace(spec, step=found)) for found in (3, 4)]
    assert len({run(tmp_path, stage).key for stage in stages}) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [({"stp": "1"}, "no parameter stp; it has: month, step"), ({"step": "many"}, "step: Input should be")],
)
def test_a_wrong_parameter_is_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(StageFailed, match=message):
        parse_spec(COUNT, {"month": "2026-01", **values})


def test_a_missing_input_says_which_command_makes_it() -> None:
    with pytest.raises(StageFailed, match="theta stage snapshot"):
        Inputs().artifact("snapshot")
