"""Recipe files: what is read of them, and what is said of those that make no sense."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter, ValidationError

from theta_ml.settings import Settings
from theta_ml.training import commands
from theta_ml.training.presets import TINY
from theta_ml.training.recipe import (
    BUILT_IN,
    Recipe,
    RecipeError,
    RecipeField,
    find_recipe,
    read_recipe,
    recipe_files,
    recipe_text,
)

NAMES = ["continue", "distill", "finetune-gpt2", "preference", "scratch"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "recipes").mkdir()
    return Settings(home=tmp_path)


def written(settings: Settings, text: str, name: str = "mine") -> Path:
    path = settings.home / "recipes" / f"{name}.yaml"
    path.write_text(text)
    return path


def test_the_built_in_ones_are_read_and_say_what_the_contract_says(settings: Settings) -> None:
    assert list(recipe_files(settings)) == NAMES
    found = {name: find_recipe(name, settings) for name in NAMES}
    assert {n: (r.start, r.method) for n, r in found.items()} == {
        "continue": ("champion", "finetune"),
        "scratch": ("scratch", "finetune"),
        "finetune-gpt2": ("base", "finetune"),
        "distill": ("scratch", "distill"),
        "preference": ("champion", "preference"),
    }
    # The two that a run most often sets beside each other learn from one corpus.
    assert found["continue"].corpus == found["scratch"].corpus
    assert all("#" in (BUILT_IN / f"{name}.yaml").read_text() for name in NAMES)


def test_a_team_s_own_is_read_whole_and_takes_the_place_of_a_built_in_one(settings: Settings) -> None:
    text = """
summary: Llama with adapters
start: base
base: ./llama
preset: base
adapters: {rank: 4, alpha: 8}
corpus: {window_months: 3, datasets: [a, b], liked_weight: 3}
hyper: {rate_base: 1e-4, epochs: 2, compile: false}
"""
    written(settings, text, "continue")
    recipe = find_recipe("continue", settings)
    assert recipe.base == str(settings.home / "recipes" / "llama")
    assert recipe.adapters is not None and (recipe.adapters.rank, recipe.adapters.alpha) == (4, 8.0)
    assert recipe.corpus.chosen() == {"window_months": 3, "datasets": "a,b", "liked_weight": 3.0}
    assert recipe.hyper == {"rate_base": 1e-4, "epochs": 2, "compile": False}  # YAML alone reads 1e-4 as text
    preset = recipe.preset_of("tiny")
    assert (preset.name, preset.hyper.epochs, preset.hyper.rate_base) == ("base", 2, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_written_as_a_file_reads_as_itself(name: str, settings: Settings) -> None:
    recipe = find_recipe(name, settings)
    assert read_recipe(written(settings, recipe_text(recipe), name)) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("summary: x\nstart: scratch\nwindow: 3", "window: there is no such field; there are summary, start, base"),
        (
            "summary: x\nstart: scratch\ncorpus: {months: 3}",
            "corpus.months: there is no such field; there are window_m",
        ),
        ("summary: x\nstart: scratch\nhyper: {rate: 3}", "hyper: there is no rate; there are rows_per_step"),
        ("summary: x\nstart: scratch\nhyper: {epochs: many}", "hyper.epochs is 'many'"),
        ("summary: x\nstart: scratch\nhyper: {epochs: true}", "hyper.epochs is True: write a number"),
        ("summary: x\nstart: scratch\nhyper: {epochs: 0}", "epochs 0 and max_steps"),
        ("summary: x\nstart: scratch\nhyper: {rows_per_step: 0}", "rows_per_step is 0: choose at least 1"),
        ("summary: x\nstart: scratch\nhyper: {rate_scratch: -1}", "rate_scratch is -1.0: choose more than 0"),
        ("summary: x\nstart: scratch\npreset: huge", "no preset 'huge': choose tiny or base"),
        ("summary: x\nstart: scratch\npreset: tiny\nhyper: {rows_per_step: 6}", "rows_per_step 6 is no multiple"),
        ("summary: x\nstart: best", "start: Input should be 'champion', 'scratch' or 'base'"),
        ("start: scratch", "summary: is missing; add it"),
        ("summary: x\nstart: base", "base: `start: base` needs one"),
        ("summary: x\nstart: scratch\nbase: gpt2", "base: `start: base` needs one, and only it"),
        ("summary: x\nstart: scratch\nadapters: {rank: 4}", "adapters: random weights have nothing to adapt"),
        ("summary: x\nstart: champion\nadapters: {rank: 0}", "adapters: rank is 0: choose at least 1"),
        ("summary: x\nstart: scratch\nteacher: /m", "teacher: `method: finetune` has none"),
        ("summary: x\nstart: champion\nmethod: distill", "teacher: the champion cannot teach itself"),
        ("summary: x\nstart: scratch\nmethod: preference", "start: preferences are learned by a model that talks"),
        ("summary: x\nstart: base\nbase: gpt2\ncorpus: {tokenizer: new}", "corpus.tokenizer: a base model brings its"),
        ("summary: x\nstart: scratch\ncorpus: {liked_weight: -1}", "corpus: liked_weight is -1.0: choose 0"),
        ("summary: x\nsummary: y\nstart: scratch", "field summary stands there twice"),
        ("summary: [", "is not YAML"),
        ("- a", "write one field a line"),
        ("summary: x\nstart: scratch\ncontent: abc", "content: there is no such field"),
    ],
)
def test_what_makes_no_sense_is_said_with_file_and_field(text: str, said: str, settings: Settings) -> None:
    path = written(settings, text)
    with pytest.raises(RecipeError) as caught:
        find_recipe("mine", settings)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)


def test_one_that_is_not_there_is_answered_with_those_there_are(settings: Settings) -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'nope'; there are: continue, .*recipes/NAME\.yaml"):
        find_recipe("nope", settings)
    gone = Settings(home=settings.home, recipes=settings.home / "gone")
    with pytest.raises(RecipeError, match=r"THETA_RECIPES names .*gone"):
        find_recipe("continue", gone)


def test_hyper_parameters_that_suit_one_preset_are_refused_with_another(settings: Settings) -> None:
    written(settings, "summary: x\nstart: scratch\nhyper: {rows_per_step: 12}")
    recipe = find_recipe("mine", settings)
    assert recipe.preset_of("tiny").hyper.rows_per_step == 12
    with pytest.raises(RecipeError, match="recipe mine: with preset base: rows_per_step"):
        recipe.preset_of("base")


@dataclass(frozen=True)
class Spec:
    recipe: RecipeField = field(default_factory=lambda: find_recipe("continue"))


def test_a_stage_s_spec_takes_the_name_and_holds_the_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    spec = TypeAdapter(Spec).validate_python({"recipe": "scratch"})
    assert spec.recipe == find_recipe("scratch") and asdict(spec)["recipe"]["start"] == "scratch"
    again = TypeAdapter(Spec).validate_python(json.loads(json.dumps(asdict(spec))))
    assert again == spec  # as an artifact's document holds it
    with pytest.raises(ValidationError, match="there is no recipe 'nope'"):
        TypeAdapter(Spec).validate_python({"recipe": "nope"})


def test_the_command_lists_shows_and_checks(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("THETA_HOME", str(settings.home))
    bad = written(settings, "summary: x\nstart: nowhere", "bad")
    run = CliRunner().invoke
    listed = run(commands.recipes, ["list", "--json"])
    rows = {row["name"]: row for row in json.loads(listed.output)}
    assert list(rows) == [*NAMES, "bad"] and rows["continue"]["fault"] is None
    assert "start:" in rows["bad"]["fault"] and rows["bad"]["whose"] == "own"
    assert run(commands.recipes, ["show", "continue"]).output == (BUILT_IN / "continue.yaml").read_text()
    shown = json.loads(run(commands.recipes, ["show", "distill", "--json"]).output)
    assert (shown["method"], shown["shape"]) == ("distill", {"layers": 2})
    checked = run(commands.recipes, ["check", str(bad)])
    assert checked.exit_code == 65 and str(bad) in checked.stderr and "start:" in checked.stderr
    assert run(commands.recipes, ["check", str(BUILT_IN / "scratch.yaml")]).exit_code == 0


def test_recipe_defaults_leave_the_preset_as_it_is(settings: Settings) -> None:
    assert find_recipe("continue", settings).preset_of("tiny") == TINY
    assert Recipe("a", "x", "scratch").corpus.chosen() == {}


def test_a_student_may_be_smaller_than_its_preset(settings: Settings) -> None:
    student = find_recipe("distill", settings).preset_of("tiny").shape
    assert student.layers < find_recipe("scratch", settings).preset_of("tiny").shape.layers


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("start: scratch\nshape: {layer: 2}", "shape: there is no layer; there are hidden_size, layers"),
        ("start: scratch\nshape: {heads: 5}", "choose heads so that"),
        ("start: scratch\nshape: {layers: two}", "shape.layers is 'two'"),
        ("start: champion\nshape: {layers: 2}", "a model that is there has its own"),
    ],
)
def test_a_shape_that_makes_no_sense_is_told(settings: Settings, lines: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        read_recipe(written(settings, f"summary: x\n{lines}\n"))
