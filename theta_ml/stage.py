"""A stage: one function `(spec, inputs, work) -> noun`, run under a content key.

The key is a hash of the stage's name and version, its spec and its inputs' keys. What a stage finds in the world (the
landing watermark, the champion, the tokenizer) it writes into its spec first (`resolve`), so that the key, the record
and the work agree. A rerun that finds the key returns at once.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from theta_ml import parts
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.store import DOCUMENT, Artifact, ArtifactMissing, ErasedMeanwhile, Store

Spec = TypeVar("Spec")
Noun = TypeVar("Noun")


class StageFailed(Exception):
    """Trying again would not help: the input or a setting is at fault."""


class StageRetry(Exception):
    """The world was not ready (a server away, a lock held too long): try again."""


class StageSkipped(Exception):
    """There is nothing to do for this run; the message says why."""


SELECT = "select"
"""Stage whose artifact stands for the training that it chose."""


class Inputs(dict[str, Artifact]):
    """What stands before a stage, by the name of the stage that made it; the first of each name."""

    def __init__(self, *named: Any, **more: Artifact) -> None:
        super().__init__(*named, **more)
        self._others: dict[str, list[Artifact]] = {}

    @classmethod
    def open(cls, store: Store, uris: Iterable[str]) -> Self:
        """A Selection brings the training along that it chose, and what that was made from."""
        inputs = cls()
        for artifact in map(store.open, uris):
            inputs.add(artifact)
            if artifact.stage == SELECT:
                for uri in chosen(artifact, store):
                    inputs.add(store.open(uri))
        return inputs

    def add(self, artifact: Artifact) -> None:
        """Given twice, it counts once."""
        if artifact.stage not in self:
            self[artifact.stage] = artifact
        elif all(artifact.key != other.key for other in self.several(artifact.stage)):
            self._others.setdefault(artifact.stage, []).append(artifact)

    def several(self, stage: str) -> list[Artifact]:
        """All of that name, in the order in which they were given."""
        return [self[stage], *self._others.get(stage, [])] if stage in self else []

    def keys_by_stage(self) -> dict[str, str | list[str]]:
        """Content keys; a list where there are several of one name."""
        return {
            stage: [each.key for each in self.several(stage)] if stage in self._others else artifact.key
            for stage, artifact in self.items()
        }

    def noun(self, stage: str, noun: type[Noun]) -> Noun:
        """The input as its dataclass. Raises StageFailed where it was not given."""
        return TypeAdapter(noun).validate_python(self.artifact(stage).document["value"])

    def optional(self, stage: str, noun: type[Noun]) -> Noun | None:
        """None where the stage did not run (it was skipped)."""
        return self.noun(stage, noun) if stage in self else None

    def artifact(self, stage: str) -> Artifact:
        if stage not in self:
            raise StageFailed(
                f"no {stage} was given: pass --input URI, with the URI that `theta stage {stage}` printed"
            )
        if stage in self._others:
            raise StageFailed(
                f"{len(self.several(stage))} artifacts of {stage} were given, one is wanted: `theta stage {SELECT}` "
                "chooses among trainings, and its URI stands for the best"
            )
        return self[stage]

    def path(self, stage: str) -> Path:
        """The directory of the input's files."""
        return self.artifact(stage).path


def chosen(selection: Artifact, store: Store) -> list[str]:
    """URIs of the training that `selection` names, and of the artifacts that it was made from."""
    train: str = selection.document["value"]["train"]
    before = store.open(train).document["inputs"]
    return [train, *(store.uri(stage, key) for stage, key in before.items())]


@dataclass(frozen=True)
class Work:
    """What a stage may use beside its inputs."""

    run_id: str
    key: str
    path: Path
    """Empty directory; what is written here becomes the artifact."""
    settings: Settings
    store: Store
    events: Events
    parts: tuple[Artifact, ...] = ()
    """What was done of this work beforehand, for the same spec and inputs; some of it or nothing may be there."""

    def parts_of(self, stage: str, version: int) -> list[Artifact]:
        """Those that this version of `stage` made."""
        return [part for part in self.parts if part.stage == stage and part.document["version"] == version]


@dataclass(frozen=True)
class Stage(Generic[Spec]):
    """A row of the pipeline. Its module holds it as `STAGE`."""

    name: str
    version: int
    """Raised when the code would make something else of the same inputs."""
    spec: type[Spec]
    """Dataclass of parameters; its first field is `month`."""
    function: Callable[[Spec, Inputs, Work], Any]
    resolve: Callable[[Spec, Inputs, Settings, str], Spec] | None = None
    """Fills in what the world decides, from `(spec, inputs, settings, run_id)`, before the key is taken."""
    effects: bool = False
    """It changes the world (a ledger row, a mail): it runs again on a rerun, for each run, and must be idempotent."""
    parts: tuple[str, ...] = ()
    """Stages that may do some of its work beforehand, on other machines. The outcome is the same without them: among
    its inputs they are no part of its key, and what they hold of conversations is removed when it is made."""


@dataclass(frozen=True)
class Result:
    uri: str
    key: str
    cached: bool


def parse_spec(stage: Stage[Spec], values: dict[str, Any]) -> Spec:
    """Raises StageFailed that names the parameter at fault and the ones there are."""
    known = [field.name for field in fields(stage.spec)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise StageFailed(f"{stage.name} has no parameter {', '.join(unknown)}; it has: {', '.join(known)}")
    try:
        return TypeAdapter(stage.spec).validate_python(values)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors(include_input=False))
        raise StageFailed(f"{stage.name}: {faults}") from None


def _fault(fault: ErrorDetails) -> str:
    """A spec's own check names its parameter in what it says, and has no place of its own."""
    message = fault["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), message)))


Local = Annotated[str, "local"]
"""Of a spec's field that says where something is on this machine: another field says what it holds, and only that is
part of the key, so that the same work has the same key on every machine."""


def content_key(stage: Stage[Spec], spec: Spec, inputs: Inputs, run_id: str) -> str:
    identity = {
        "stage": [stage.name, stage.version],
        "spec": asdict(spec) | dict.fromkeys(_local(spec), ""),  # type: ignore[call-overload]
        "inputs": inputs.keys_by_stage(),
        "run": run_id if stage.effects else None,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _local(spec: Any) -> list[str]:
    """Its fields that are `Local`."""
    return [name for name, kind in get_type_hints(type(spec), include_extras=True).items() if kind == Local]


def is_made(stage: Stage[Any], spec: Any, inputs: Inputs, work: Work) -> bool:
    """Whether `stage` has made already what this work would be a part of; `spec` has all fields of its spec."""
    own = stage.spec(**{field.name: getattr(spec, field.name) for field in fields(stage.spec)})
    return work.store.has(stage.name, content_key(stage, own, inputs, work.run_id))


def run_stage(
    stage: Stage[Spec],
    spec: Spec,
    input_uris: list[str],
    run_id: str,
    settings: Settings,
    events: Events,
    started: float | None = None,
) -> Result:
    """Runs `stage`, or finds what an earlier run of the same key made.

    `started` says when its work began where that was before this call: loading its libraries is part of it.
    """
    store = Store(settings.artifacts, settings.home / "cache")
    store.watch_erasures()  # before anything is asked of the world: what parts hold must be as it is from here on
    inputs = Inputs.open(store, [uri for uri in input_uris if parts.stage_of(uri) not in stage.parts])
    if stage.resolve:
        spec = stage.resolve(spec, inputs, settings, run_id)
    key = content_key(stage, spec, inputs, run_id)
    portable = {name: value for name, value in asdict(spec).items() if name not in _local(spec)}  # type: ignore[call-overload]
    beforehand = [uri for uri in input_uris if parts.stage_of(uri) in stage.parts]
    beforehand = parts.fitting(store, beforehand, portable, inputs.keys_by_stage())
    found = store.find(stage.name, key)
    if found and not stage.effects:
        events.log(f"{stage.name}: found {found.uri}, made before from the same inputs")
    else:
        try:
            with store.writing(stage.name, key, started) as path:
                opened = tuple(parts.opened(store, beforehand))
                with _retried_where_gone(store, opened):
                    noun = stage.function(spec, inputs, Work(run_id, key, path, settings, store, events, opened))
                _describe(stage, spec, inputs, key, noun, path)
        except ErasedMeanwhile as error:
            raise StageRetry(str(error)) from None
    parts.remove(store, beforehand)
    return Result(store.uri(stage.name, key), key, cached=found is not None and not stage.effects)


@contextmanager
def _retried_where_gone(store: Store, opened: Sequence[Artifact]) -> Iterator[None]:
    """Another run for which the same parts were made removes them when it is done, and so does an erasure: raises
    StageRetry where one could not be read because it has gone since it was opened."""
    try:
        yield
    except (ArtifactMissing, FileNotFoundError):
        gone = next((part.uri for part in opened if not store.has(part.stage, part.key)), None)
        if gone is None:
            raise
        raise StageRetry(f"{gone} was removed while it was read; the next attempt does without it") from None


def _describe(stage: Stage[Spec], spec: Spec, inputs: Inputs, key: str, noun: Any, path: Path) -> None:
    document = {
        "stage": stage.name,
        "version": stage.version,
        "key": key,
        "spec": asdict(spec),  # type: ignore[call-overload]
        "inputs": inputs.keys_by_stage(),
        "noun": type(noun).__name__,
        "value": asdict(noun),
    }
    (path / DOCUMENT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
