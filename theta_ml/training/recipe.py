"""A recipe: a small file that says one way of making a better model.

Theta's own stand in `recipes/` beside this module; a team's own in `$THETA_HOME/recipes`, or the folder that
THETA_RECIPES names, where a recipe takes the place of a built-in one of the same name.
"""

import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from theta_ml.settings import Settings, load_settings
from theta_ml.training.presets import PRESETS, Hyper, ModelShape, Preset, find_preset

BUILT_IN = Path(__file__).with_name("recipes")
DEFAULT = "continue"
CHAMPION = "champion"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NOT_IN_FILES = ("name", "content")


class RecipeError(ValueError):
    """A recipe is missing or makes no sense; the message names file and field, and says what to change."""


@dataclass(frozen=True)
class Adapters:
    """Low-rank matrices beside the linear layers of attention and MLP are trained (LoRA, arXiv:2106.09685), and merged
    into the weights at the end."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    rank: int = 8
    """Width of the matrices: more learns more, and takes more memory."""
    alpha: float = 16.0
    """What they add is multiplied by alpha / rank."""
    dropout: float = 0.0
    """On what goes into them."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}: choose at least 1, for example 8")
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}: choose more than 0, for example twice the rank")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: choose 0 to less than 1")


def _joined(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class CorpusChoice:
    """What is learned from; what is None is as `prepare` has it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    window_months: int | None = None
    """Only so many months, the newest of the snapshot."""
    datasets: Annotated[str | None, BeforeValidator(_joined)] = None
    """Of the catalog: `all` that are enabled, `none`, or ids."""
    newest_weight: float | None = None
    """How often an epoch shows the newest month, where older months stand beside it."""
    replay_weight: float | None = None
    """How often it shows older months."""
    liked_weight: float | None = None
    """How often it shows conversations that people rated 4 or better, times the weights above."""
    disliked_weight: float | None = None
    """How often those rated 2 or worse."""
    user_share: float | None = None
    """At most this share of the conversations may be one user's."""
    tokenizer: Literal["champion", "new"] | None = None
    """Keep the champion's, or train a new one. From a base model, it is the base's."""

    def __post_init__(self) -> None:
        if self.window_months is not None and self.window_months < 1:
            raise ValueError(f"window_months is {self.window_months}: choose at least 1, or leave it out for all")
        for name in ("newest_weight", "replay_weight", "liked_weight", "disliked_weight"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 100:
                raise ValueError(f"{name} is {value}: choose 0 (never) to 100 (a hundred times an epoch)")
        if self.user_share is not None and not 0 < self.user_share <= 1:
            raise ValueError(f"user_share is {self.user_share}: choose a share above 0, at most 1")

    def chosen(self) -> dict[str, Any]:
        """Those fields that are not left to `prepare`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Recipe:
    """One way of making a candidate."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    """That of its file."""
    summary: str
    """One line, for people."""
    start: Literal["champion", "scratch", "base"]
    """Whose weights: the champion's (random ones where there is none that fits), random ones, or `base`."""
    base: str | None = None
    """Of `start: base`, a causal language model in the library's form: a hub id, or a folder (from this file's)."""
    method: Literal["finetune", "distill", "preference"] = "finetune"
    """Learn from conversations; from them and a teacher's view of every token; or from pairs of answers, one liked and
    one disliked."""
    teacher: str = CHAMPION
    """Of `method: distill`: `champion`, or as `base` a hub id or a folder; its tokenizer is the corpus'."""
    preset: str | None = None
    """Size of a new model, its rows and its hyper-parameters; None: the run's."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Size of a new model where it is not as the preset has it."""
    adapters: Adapters | None = None
    """Train adapters in place of all weights."""
    corpus: CorpusChoice = field(default_factory=CorpusChoice)
    """What is learned from."""
    hyper: dict[str, Any] = field(default_factory=dict)
    """Hyper-parameters that are not as the preset has them."""
    content: str = ""
    """Fingerprints of the files of base model and teacher; filled in when a stage begins."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: choose lower case letters, digits and -, at most 64, as NAME.yaml")
        if not self.summary.strip() or "\n" in self.summary.strip():
            raise ValueError("summary: say in one line what this recipe does")
        self._require_what_start_needs()
        self._require_what_method_needs()
        if self.shape and self.start != "scratch":
            raise ValueError("shape: a model that is there has its own; leave this out, or choose `start: scratch`")
        object.__setattr__(self, "shape", _typed_values("shape", self.shape, ModelShape))
        object.__setattr__(self, "hyper", _typed_values("hyper", self.hyper, Hyper))
        self._require_suits_a_preset()

    def _require_what_start_needs(self) -> None:
        if (self.base is not None) != (self.start == "base"):
            raise ValueError(
                "base: `start: base` needs one, and only it; give a hub id or a folder, or choose another start"
            )
        if self.adapters and self.start == "scratch":
            raise ValueError(
                "adapters: random weights have nothing to adapt; choose `start: champion` or `start: base`"
            )
        if self.start == "base" and self.corpus.tokenizer:
            raise ValueError("corpus.tokenizer: a base model brings its own; leave this out")

    def _require_what_method_needs(self) -> None:
        if self.method == "distill" and (self.start, self.teacher) == ("champion", CHAMPION):
            raise ValueError(
                "teacher: the champion cannot teach itself; choose `start: scratch` for a student, or another teacher"
            )
        if self.method == "distill" and self.corpus.tokenizer == "new":
            raise ValueError("corpus.tokenizer: student and teacher share one; leave this out")
        if self.method != "distill" and self.teacher != CHAMPION:
            raise ValueError(f"teacher: `method: {self.method}` has none; leave it out, or choose `method: distill`")
        if self.method == "preference" and self.start == "scratch":
            raise ValueError(
                "start: preferences are learned by a model that talks; choose `start: champion` or `start: base`"
            )

    def _require_suits_a_preset(self) -> None:
        """The recipe's own, or one of those that a run may have."""
        presets = [find_preset(self.preset)] if self.preset else list(PRESETS.values())
        faults = []
        for preset in presets:
            try:
                self._changed(preset)
            except ValueError as error:
                faults.append(f"with preset {preset.name}: {error}")
        if len(faults) == len(presets):
            raise ValueError(faults[0])

    def preset_of(self, name: str) -> Preset:
        """The preset that this recipe trains with in a run of preset `name`. Raises RecipeError."""
        preset = find_preset(self.preset or name)
        try:
            return self._changed(preset)
        except ValueError as error:
            raise RecipeError(f"recipe {self.name}: with preset {preset.name}: {error}") from None

    def _changed(self, preset: Preset) -> Preset:
        return Preset(preset.name, replace(preset.shape, **self.shape), preset.hyper.changed(self.hyper))


def find_recipe(name: str, settings: Settings | None = None) -> Recipe:
    """Raises RecipeError that names the recipes there are, or what is wrong with this one."""
    return read_recipe(recipe_file(name, settings or load_settings()))


def recipe_file(name: str, settings: Settings) -> Path:
    files = recipe_files(settings)
    if name not in files:
        raise RecipeError(
            f"there is no recipe {name!r}; there are: {', '.join(files)}. "
            f"Write one of your own as {recipes_folder(settings) / 'NAME.yaml'}"
        )
    return files[name]


def recipe_files(settings: Settings) -> dict[str, Path]:
    """By name: the built-in ones, then a team's own."""
    own = recipes_folder(settings)
    if settings.recipes and not own.is_dir():
        raise RecipeError(f"THETA_RECIPES names {own}, which is no folder; make it, or unset THETA_RECIPES")
    return {path.stem: path for folder in (BUILT_IN, own) for path in sorted(folder.glob("*.yaml"))}


def recipes_folder(settings: Settings) -> Path:
    """Where a team's own recipes are; it need not exist."""
    return settings.recipes or settings.home / "recipes"


def read_recipe(path: Path) -> Recipe:
    """Raises RecipeError that names file and field."""
    return _recipe(_content(path), path)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as a file, with only what is not as by default."""
    default = asdict(Recipe("x", "x", "scratch"))
    content = {
        name: _without_none(value)
        for name, value in asdict(recipe).items()
        if name not in _NOT_IN_FILES and (name in ("summary", "start") or value != default[name])
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _without_none(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class _Loader(yaml.SafeLoader):
    """Two fields of one name are a fault, where YAML would quietly take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"field {', '.join(twice)} stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(), _Loader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; give the path of a recipe's file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"{path} is not YAML that Theta reads ({' '.join(str(error).split())}); mend it there"
        ) from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path}: write one field a line, for example `start: champion`; the fields are {_known(Recipe)}"
        )
    return content


def _recipe(content: dict[str, Any], path: Path) -> Recipe:
    for name in _NOT_IN_FILES:
        if name in content:
            raise RecipeError(f"{path}: {name}: there is no such field; there are {_known(Recipe)}")
    try:
        return _ADAPTER.validate_python({"name": path.stem, **_resolved(content, path)})
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors(include_url=False))
        raise RecipeError(f"{path}: {faults}") from None


def _resolved(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A model's folder is found from the recipe's; a hub id begins with none of these."""
    resolved = dict(content)
    for name in ("base", "teacher"):
        value = content.get(name)
        if isinstance(value, str) and value.startswith((".", "/", "~")):
            resolved[name] = str((path.absolute().parent / Path(value).expanduser()).resolve())
    return resolved


def _fault(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "unexpected_keyword_argument":
        inside = {"corpus": CorpusChoice, "adapters": Adapters}.get(str(fault["loc"][0]), Recipe)
        return f"{place}: there is no such field; there are {_known(inside)}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{place}: is missing; add it"
    return f"{place}: {message}" if place else message


def _known(of: type) -> str:
    assert is_dataclass(of)
    return ", ".join(each.name for each in fields(of) if each.name not in _NOT_IN_FILES)


def _typed_values(field_name: str, values: dict[str, Any], of: type) -> dict[str, Any]:
    """Values as the fields of `of` want them: YAML reads 1e-3 as text. Raises ValueError that names the field."""
    kinds = get_type_hints(of)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise ValueError(f"{field_name}: there is no {', '.join(unknown)}; there are {', '.join(kinds)}")
    return {name: _typed(f"{field_name}.{name}", value, kinds[name]) for name, value in values.items()}


def _typed(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, bool) and kind is not bool:
        raise ValueError(f"{name} is {value}: write a number")
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        wanted = " or ".join(each.__name__ for each in get_args(kind) or (kind,))
        raise ValueError(f"{name} is {value!r}: {error.errors()[0]['msg']} ({wanted})") from None


_ADAPTER = TypeAdapter(Recipe)


def _named(value: Any) -> Any:
    return find_recipe(value) if isinstance(value, str) else value


RecipeField = Annotated[Recipe, BeforeValidator(_named)]
"""In a stage's spec: the command line gives the recipe's name, the spec holds its whole content."""
