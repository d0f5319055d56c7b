"""The recipes of a run, looked at before anything is trained."""

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from theta_ml.settings import load_settings
from theta_ml.training.recipe import RecipeError, find_recipe, recipe_files


def known_recipes() -> list[str]:
    """Names for the trigger form; no file is read."""
    return list(recipe_files(load_settings()))


@task
def recipes() -> list[str]:
    """The names that the run's parameter `recipes` holds, each once.

    Raises AirflowFailException where one is unknown or broken.
    """
    names = list(dict.fromkeys(get_current_context()["params"]["recipes"]))
    if not names:
        raise AirflowFailException(f"no recipe was chosen; there are: {', '.join(known_recipes())}")
    try:
        return [find_recipe(name).name for name in names]
    except RecipeError as error:
        raise AirflowFailException(str(error)) from None
