"""What a recipe means for a stage, before the stage's key is taken."""

from dataclasses import replace
from typing import Any

from theta_ml.corpus.spec import PrepareSpec
from theta_ml.pretrained import find_model, fingerprint
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed
from theta_ml.training.recipe import CHAMPION, Recipe, RecipeError, find_recipe


def for_corpus(spec: PrepareSpec, settings: Settings) -> PrepareSpec:
    """The spec with the recipe's choices in the place of its name: recipes that choose alike share a corpus.

    Raises StageFailed where there is no such recipe, or it makes no sense.
    """
    if not spec.recipe:
        return spec
    try:
        recipe = find_recipe(spec.recipe, settings)
    except RecipeError as error:
        raise StageFailed(f"prepare: recipe: {error}") from None
    chosen: dict[str, Any] = recipe.corpus.chosen() | {"recipe": "", "preset": recipe.preset or spec.preset}
    if recipe.base:
        chosen |= {"tokenizer": "base", "base": recipe.base, "champion": None}
    return replace(spec, **chosen)


def with_content(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with the fingerprints of its base model and of its teacher: of other weights comes another candidate.

    Raises ModelMissing.
    """
    named = [name for name in (recipe.base, recipe.teacher) if name and name != CHAMPION]
    return replace(recipe, content=" ".join(fingerprint(find_model(name, settings)) for name in named))


def for_training(spec: Any, inputs: Inputs, settings: Settings, run_id: str) -> Any:
    """`Stage.resolve` of the stages whose spec holds a whole recipe."""
    return replace(spec, recipe=with_content(spec.recipe, settings))
