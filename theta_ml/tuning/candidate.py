"""What a trial trains: the recipe's start on the corpus, with the hyper-parameters that are tried."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from theta_ml.corpus.prepare import PackedCorpus
from theta_ml.settings import Settings
from theta_ml.stage import Inputs
from theta_ml.store import Store
from theta_ml.training.presets import Hyper, Preset
from theta_ml.tuning.budget import Budget
from theta_ml.tuning.space import RATE, Space
from theta_ml.tuning.spec import StudySpec

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from theta_ml.training.fit import Fitted
    from theta_ml.training.methods import Method
    from theta_ml.training.start import Start


@dataclass(frozen=True)
class Ready:
    """A model before its first step, and how it is trained."""

    start: "Start"
    method: "Method"

    @property
    def rows(self) -> int:
        """To train on, in an epoch."""
        return self.method.train.count


@dataclass(frozen=True)
class Candidate:
    """The recipe on this corpus, to be trained with one point of the space after another."""

    spec: StudySpec
    inputs: Inputs
    store: Store
    settings: Settings

    @cached_property
    def preset(self) -> Preset:
        """With the recipe's hyper-parameters."""
        return self.spec.recipe.preset_of(self.spec.preset)

    def ready(self) -> Ready:
        """Raises StageFailed where the recipe does not suit corpus or champion."""
        from theta_ml.training.hardware import pick_device
        from theta_ml.training.methods import method_of
        from theta_ml.training.preflight import require_gpu, require_rows
        from theta_ml.training.start import start

        spec, packed = self.spec, self.inputs.artifact("prepare")
        require_gpu(self.settings, pick_device())
        corpus = self.inputs.noun("prepare", PackedCorpus)
        where = (packed.path, spec.seed, self.store, self.settings)
        begun = start(spec.recipe, self.preset, spec.champion, corpus, *where)
        method = method_of(spec.recipe, begun.model, spec.champion, corpus, packed, self.store)
        require_rows(method.train.count, self.preset.hyper.rows_per_step)
        return Ready(begun, method)

    def space(self, rate: float) -> Space:
        """Around the recipe's own values; `rate` is the peak of its start."""
        return Space.around(self.spec.space, self.preset.hyper, rate, grid=self.spec.sampler == "grid")

    def hyper(self, point: Mapping[str, float], budget: Budget, rows: int) -> Hyper:
        """Of a trial at this point of the space, where an epoch has so many rows."""
        changed = hyper_of(point, self.preset.hyper)
        rows_per_step = changed.get("rows_per_step", self.preset.hyper.rows_per_step)
        steps = budget.steps(rows_per_step)
        return self.preset.hyper.changed(
            changed
            | {
                "max_steps": steps,
                "epochs": math.ceil(steps / math.ceil(rows / rows_per_step)),
                "validate_steps": steps // budget.validations,
                "patience": None,  # who ends a trial early is the pruner
            }
        )

    def fit(
        self,
        ready: Ready,
        hyper: Hyper,
        rate: float,
        folder: Path,
        log: Callable[[str], None],
        stop: Event | None = None,
        callbacks: "Sequence[TrainerCallback]" = (),
    ) -> "Fitted":
        """Trains it; goes on from a checkpoint in `folder`. Raises as `training.fit.fit` does."""
        from theta_ml.training.batch_size import choose
        from theta_ml.training.fit import Fit, fit
        from theta_ml.training.resources import Load

        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.settings.home / "compile-cache"))
        # Trials train in one process, however many a training has.
        load = replace(Load.of(ready.method.train, self.settings), processes=1, sharded=False)
        work = Fit(
            model=ready.start.model,
            hyper=choose(ready.start.model, load, hyper, folder, ready.method.onlookers),
            train=ready.method.train,
            validation=ready.method.validation,
            peak=rate,
            seed=self.spec.seed,
            folder=folder,
            stop=stop or Event(),
            callbacks=list(callbacks),
            log=log,
            trainer=ready.method.trainer,
            extra=ready.method.extra,
        )
        return fit(work)


def hyper_of(point: Mapping[str, float], hyper: Hyper) -> dict[str, Any]:
    """The point's fields of Hyper; the rate apart, which is the start's."""
    changed: dict[str, Any] = {name: value for name, value in point.items() if name != RATE}
    if "rows_per_step" in changed:
        rows = int(changed["rows_per_step"])
        changed |= {"rows_per_step": rows, "rows_at_once": math.gcd(rows, hyper.rows_at_once)}
    return changed
