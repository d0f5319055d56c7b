"""Stage `winner`: the best trial as a recipe, where it beat the recipe as it was under the same budget."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.training.recipe import Recipe, recipe_text, recipes_folder
from theta_ml.tuning.budget import spent_seconds
from theta_ml.tuning.candidate import Candidate, hyper_of
from theta_ml.tuning.space import RATE
from theta_ml.tuning.spec import Winner
from theta_ml.tuning.study import DEFAULT, RATE_FIELD, budget_of, told
from theta_ml.tuning.trial import Tuning


@dataclass(frozen=True)
class WinnerSpec:
    """Nothing to choose."""

    month: str
    """The run's month."""


def winner(spec: WinnerSpec, inputs: Inputs, work: Work) -> Winner:
    found = find_winner(Tuning.of(inputs, work.run_id, work.settings, work.store, work.events))
    if found.loss is None and found.cut_short:
        raise StageFailed(f"no trial came to its end, {found.cut_short} failed; the logs of the trials say why")
    work.events.log(found.sentence)
    return found


def find_winner(tuning: Tuning) -> Winner:
    """Writes the recipe; one that is there already with the same content is the same, another is never overwritten."""
    study = tuning.study()
    found = _counted(study, tuning.candidate, _best(study))
    if found.loss is not None and found.default_loss is not None and found.loss < found.default_loss:
        name, file = _write(tuning, found)
        found = replace(found, recipe=name, file=str(file))
    tuning.clear()
    told(tuning.settings, study, tuning.candidate, tuning.events, ended=True)
    return replace(found, sentence=_sentence(found))


def _best(study: optuna.Study) -> FrozenTrial | None:
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(whole, key=lambda trial: (trial.value, trial.number), default=None)


def _default_loss(study: optuna.Study) -> float | None:
    """Of the recipe as it is; where it ran away, the best that it came to. No pruner ends it."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    for trial in ended:
        if trial.params == study.user_attrs[DEFAULT]:
            return min(trial.intermediate_values.values(), default=None)
    return None


def _counted(study: optuna.Study, candidate: Candidate, best: FrozenTrial | None) -> Winner:
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials]
    return Winner(
        month=candidate.spec.month,
        study=study.study_name,
        trials=sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states),
        pruned=states.count(TrialState.PRUNED),
        cut_short=states.count(TrialState.FAIL),
        minutes=spent_seconds(trials) / 60,
        default_loss=_default_loss(study),
        loss=best.value if best else None,
        number=best.number if best else None,
        params=best.params if best else {},
        recipe=None,
        file="",
        sentence="",
    )


def _sentence(found: Winner) -> str:
    made = f"{found.trials} trials ({found.pruned} pruned) in {found.minutes:.1f} minutes"
    if found.default_loss is None or found.loss is None:
        return f"nothing to choose from: {made} came to no end; give it more minutes"
    if found.recipe is None:
        return f"nothing beat the recipe as it is, validation loss {found.default_loss:.4f}, in {made}"
    return (
        f"validation loss {found.loss:.4f}, the recipe as it is {found.default_loss:.4f}, in {made}: "
        f"recipe {found.recipe} ({found.file})"
    )


def _write(tuning: Tuning, found: Winner) -> tuple[str, Path]:
    folder = recipes_folder(tuning.settings)
    folder.mkdir(parents=True, exist_ok=True)
    comment = _comment(tuning, found)
    for name in _names(f"tuned-{found.month}"):
        file = folder / f"{name}.yaml"
        text = comment + recipe_text(_tuned(tuning, found, name))
        if _place(file, text):
            return name, file
    raise AssertionError("numbers do not end")


def _names(first: str) -> Iterator[str]:
    yield first
    yield from (f"{first}-{number}" for number in count(2))


def _place(file: Path, text: str) -> bool:
    """Whether the file is there with this text; one with another text stays as it is."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text)
    try:
        os.link(partial, file)  # unlike a rename, it refuses where there is one
    except FileExistsError:
        return file.read_text() == text
    finally:
        partial.unlink()
    return True


def _comment(tuning: Tuning, found: Winner) -> str:
    spec, budget = tuning.candidate.spec, budget_of(tuning.study())
    steps = budget.steps(tuning.candidate.preset.hyper.rows_per_step)
    assert found.loss is not None and found.default_loss is not None
    lines = (
        f"Written by `theta tune`: study {found.study}, trial {found.number}.",
        f"Validation loss {found.loss:.4f} nats a token; the recipe {spec.recipe.name} as it is came to "
        f"{found.default_loss:.4f}.",
        f"Each of {found.trials} trials ({found.pruned} pruned) was given as many rows as {steps} steps of that recipe "
        "take.",
        "The best of several is flattered by the validation split it was chosen on; a longer training may want a lower "
        "rate.",
    )
    return "".join(f"# {line}\n" for line in lines)


def _tuned(tuning: Tuning, found: Winner, name: str) -> Recipe:
    """The recipe with the trial's values."""
    candidate, study = tuning.candidate, tuning.study()
    recipe = candidate.spec.recipe
    changed = hyper_of(found.params, candidate.preset.hyper)
    if RATE in found.params:
        changed |= {study.user_attrs[RATE_FIELD]: found.params[RATE]}
    return replace(
        recipe,
        name=name,
        summary=f"{recipe.name}, tuned on {found.month}.",
        preset=candidate.preset.name,
        hyper={**recipe.hyper, **{key: _short(value) for key, value in changed.items()}},
    )


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


STAGE = Stage("winner", 1, WinnerSpec, winner, effects=True)
