"""`theta recipes`: the ways there are of making a candidate."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from theta_ml.training.recipe import Recipe


@click.group()
def recipes() -> None:
    """Ways of making a candidate: `theta retrain --recipe continue --recipe scratch` trains one for each.

    \b
    theta recipes list                the built-in ones and your own
    theta recipes show continue       one of them, with its comments: copy it to write your own
    theta recipes check mine.yaml     whether a file makes sense

    Your own stand in $THETA_HOME/recipes (or the folder THETA_RECIPES names), as NAME.yaml.
    """


@recipes.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print the recipes, whole, as JSON.")
def list_(as_json: bool) -> None:
    """Every recipe: where it starts, how it trains, what it does. One that makes no sense says why."""
    from theta_ml.settings import load_settings
    from theta_ml.training.recipe import BUILT_IN, RecipeError, read_recipe, recipe_files

    with _faults():
        files = recipe_files(load_settings())
    rows = []
    for name, path in files.items():
        whose = "built in" if path.parent == BUILT_IN else "own"
        try:
            rows.append({"whose": whose, "file": str(path), "fault": None, **asdict(read_recipe(path))})
        except RecipeError as error:
            rows.append({"whose": whose, "file": str(path), "fault": str(error), "name": name})
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        said = row["fault"] or f"{row['start']}, {row['method']}: {row['summary']}"
        click.echo(f"{row['name']:<16} {row['whose']:<9} {said}")


@recipes.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print its content as JSON, without comments.")
def show(name: str, as_json: bool) -> None:
    """Print a recipe's file, with its comments."""
    from theta_ml.settings import load_settings
    from theta_ml.training.recipe import read_recipe, recipe_file

    with _faults():
        path = recipe_file(name, load_settings())
        if as_json:
            click.echo(_as_json(read_recipe(path)))
        else:
            click.echo(path.read_text(), nl=False)


@recipes.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was read as JSON.")
def check(file: Path, as_json: bool) -> None:
    """Read a recipe and say what is wrong with it; exit 65 where something is.

    Whether its base model or teacher is there, `theta stage preflight` says.
    """
    from theta_ml.training.recipe import read_recipe

    with _faults():
        recipe = read_recipe(file)
    click.echo(_as_json(recipe) if as_json else f"{file}: recipe {recipe.name} makes sense: {recipe.summary}")


def _as_json(recipe: "Recipe") -> str:
    return json.dumps(asdict(recipe), indent=2, ensure_ascii=False)


@contextmanager
def _faults() -> Iterator[None]:
    """A fault that the user can mend is one line."""
    from theta_ml.training.recipe import RecipeError

    try:
        yield
    except RecipeError as error:
        click.echo(f"theta recipes: {error}", err=True)
        raise SystemExit(65) from None
