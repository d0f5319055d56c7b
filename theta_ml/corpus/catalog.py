"""The catalog: what a corpus may be made of, from the built-in `catalog.yaml` and a team's own."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from theta_ml.month import MONTH_PATTERN
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

BUILT_IN = Path(__file__).with_name("catalog.yaml")
STARTER = Path(__file__).with_name("starter")
LANDING = "landing"
_DATASETS = "datasets"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which takes a tenth of the time, where PyYAML was built with it."""

Format = Literal["messages", "sharegpt", "alpaca", "text", "csv", "parquet"]

COLUMNS = {
    "id": "the conversation's own id",
    "language": "its language, as ISO 639-1",
    "user_id": "who spoke; leaves the file only as a hash",
    "rating": "how it was judged",
    "messages": "messages: the list of {role, content}",
    "role": "who says a message",
    "content": "what it says",
    "conversations": "sharegpt: the list of {from, value}",
    "from": "sharegpt: who says a message",
    "value": "sharegpt: what it says",
    "system": "alpaca: a system message",
    "instruction": "alpaca: what is asked",
    "input": "alpaca: what it is asked about",
    "output": "alpaca: the answer",
    "conversation_id": "csv, parquet with a row a message: which rows belong together",
}
"""What a format looks for; `columns` of an entry says what a file calls it instead."""


class CatalogError(StageFailed):
    """The catalog makes no sense; the message names file, entry and field, and says what to write."""


class Missing(StageFailed):
    """What an entry names is not there; the message names entry and place, and says what to do."""


def _spdx(value: str) -> str:
    try:
        return canonicalize_license_expression(value)
    except InvalidLicenseExpression:
        raise ValueError(
            "is no SPDX licence; write one such as MIT, CC-BY-4.0 or Apache-2.0 (https://spdx.org/licenses), "
            "or LicenseRef-NAME for terms of your own"
        ) from None


class Dataset(BaseModel):
    """One entry of the catalog."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Lower case; stands as `source` beside each conversation that came from here."""
    category: str = Field(min_length=1)
    title: str = ""
    description: str = ""
    licence: Annotated[str, AfterValidator(_spdx)]
    """SPDX expression."""
    source: Literal["starter", "landing", "file", "hub"]
    format: Format = "messages"
    """What a row looks like (see `formats`)."""
    weight: float = Field(default=1.0, ge=0, le=100)
    """How many times an epoch shows each conversation: 1 once, 0.5 half of them, 2 twice."""
    enabled: bool = True
    """Whether corpora take from it."""
    path: str | None = None
    """Of a `file`: a path or a glob; relative to the folder of the catalog that names it."""
    hub: str | None = None
    """Of a `hub` set: OWNER/NAME, or a folder that holds a copy."""
    config: str | None = None
    split: str = "train"
    """Of a `hub` set: which of its published splits."""
    revision: str | None = None
    """Of a `hub` set: a branch, a tag or a commit; a commit needs no network to be told from another."""
    languages: tuple[str, ...] = ()
    """Those spoken, as ISO 639-1; where there is one, it is the language of rows that name none."""
    limit: int | None = Field(default=None, gt=0)
    """At most so many conversations, the first ones."""
    columns: dict[str, str] = Field(default_factory=dict)
    """What the rows call a field, where not by its usual name (COLUMNS)."""

    @property
    def active(self) -> bool:
        return self.enabled and self.weight > 0

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if re.fullmatch(MONTH_PATTERN, self.id):
            raise ValueError("id: months of the landing zone are named so; choose another")
        if (self.path is not None) != (self.source == "file"):
            raise ValueError("path: a `source: file` needs one, and only it; give the file or glob it is read from")
        if (self.hub is not None) != (self.source == "hub"):
            raise ValueError("hub: a `source: hub` needs one, and only it; give OWNER/NAME")
        if (self.source == "landing") != (self.id == LANDING):
            raise ValueError(
                f"source: `landing` is the entry of that id and no other; choose an id other than {LANDING}"
            )
        if self.source == "hub" and self.format in ("text", "csv", "parquet"):
            raise ValueError("format: rows of a hub set are messages, sharegpt or alpaca; say which")
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise ValueError(
                f"columns: {', '.join(unknown)} is nothing a format looks for; it looks for {', '.join(COLUMNS)}"
            )
        return self


@dataclass(frozen=True)
class Catalog:
    datasets: tuple[Dataset, ...]

    def get(self, dataset_id: str) -> Dataset:
        """Raises CatalogError that names the entries there are."""
        for dataset in self.datasets:
            if dataset.id == dataset_id:
                return dataset
        known = ", ".join(dataset.id for dataset in self.datasets)
        raise CatalogError(f"the catalog has no dataset {dataset_id}; it has: {known}. `theta data add` adds one")

    @property
    def landing(self) -> Dataset:
        """The landing zone: read through snapshots, weighted like the others."""
        return self.get(LANDING)

    @property
    def mixture(self) -> tuple[Dataset, ...]:
        """What stands beside the landing zone in a corpus: enabled, with a weight above 0; in the catalog's order."""
        return tuple(dataset for dataset in self.datasets if dataset.active and dataset.id != LANDING)


def own_catalog(settings: Settings) -> Path:
    """The team's own catalog, which need not exist."""
    return settings.catalog or settings.home / "catalog.yaml"


def load_catalog(settings: Settings, beginning: bool = False) -> Catalog:
    """The built-in entries with the team's own over them. Raises CatalogError.

    `beginning`: the file that THETA_CATALOG names need not be there yet.
    """
    entries = _entries(BUILT_IN)
    own = own_catalog(settings)
    changes = _entries(own) if own.exists() or (settings.catalog and not beginning) else {}
    for dataset_id, fields in changes.items():
        entries[dataset_id] = entries.get(dataset_id, {}) | fields
    return Catalog(
        tuple(_dataset(fields, own if dataset_id in changes else BUILT_IN) for dataset_id, fields in entries.items())
    )


def write_entry(settings: Settings, dataset_id: str, fields: dict[str, Any]) -> Path:
    """Adds or changes an entry of the team's own catalog, and says in which file. Comments in it are lost."""
    path = own_catalog(settings)
    written = _raw(path) if path.exists() else []
    found = next((entry for entry in written if entry["id"] == dataset_id), None)
    if found is None:
        written.append({"id": dataset_id} | fields)
    else:
        found.update(fields)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(yaml.safe_dump({_DATASETS: written}, sort_keys=False, allow_unicode=True))
    partial.replace(path)
    return path


def parse_entry(fields: dict[str, Any], catalog: Path) -> Dataset:
    """An entry as it would stand in the file `catalog`. Raises CatalogError."""
    return _dataset(_resolved(fields, catalog), catalog)


def _entries(catalog: Path) -> dict[str, dict[str, Any]]:
    """By id, in order, with paths made absolute."""
    entries: dict[str, dict[str, Any]] = {}
    for fields in _raw(catalog):
        if fields["id"] in entries:
            raise CatalogError(f"{catalog}: two entries have the id {fields['id']}; rename or remove one")
        entries[fields["id"]] = _resolved(fields, catalog)
    return entries


def _raw(catalog: Path) -> list[dict[str, Any]]:
    try:
        document = yaml.load(catalog.read_text(), _LOADER)  # noqa: S506 (it is a safe one)
    except OSError as error:
        raise CatalogError(
            f"{catalog}: {error.strerror}; write one with `theta data add`, or unset THETA_CATALOG"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{catalog} is not YAML ({' '.join(str(error).split())}); mend it there") from None
    content = {_DATASETS: []} if document is None else document
    entries = content.get(_DATASETS) if isinstance(content, dict) and set(content) <= {_DATASETS} else None
    if not isinstance(entries, list):
        raise CatalogError(
            f"{catalog}: write `{_DATASETS}:` and below it a list of entries, each beginning with `- id:`"
        )
    for number, fields in enumerate(entries, 1):
        if not isinstance(fields, dict) or not isinstance(fields.get("id"), str):
            raise CatalogError(f"{catalog}: entry {number} has no id; begin it with `- id: NAME`")
    return entries


def _resolved(fields: dict[str, Any], catalog: Path) -> dict[str, Any]:
    """A path, and a hub set's local copy, are found from the catalog's folder."""
    resolved = dict(fields)
    for name in ("path", "hub"):
        value = fields.get(name)
        if isinstance(value, str) and (name == "path" or value.startswith((".", "/", "~"))):
            resolved[name] = str(catalog.absolute().parent / Path(value).expanduser())
    return resolved


def _dataset(fields: dict[str, Any], catalog: Path) -> Dataset:
    try:
        return Dataset.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors(include_url=False))
        raise CatalogError(f"{catalog}: entry {fields['id']}: {faults}") from None


def _fault(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such field; there are {', '.join(Dataset.model_fields)}"
    if fault["type"] == "missing":
        return f"{place}: is missing; add it"
    return f"{place}: {message}" if place else message
