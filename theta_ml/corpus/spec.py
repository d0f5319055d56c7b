"""What `prepare` is told, and what it finds in the world before its key is taken."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from theta_ml.champion import Champion
from theta_ml.corpus.catalog import Catalog, CatalogError, Dataset, load_catalog
from theta_ml.corpus.cleaning import Rules
from theta_ml.corpus.contamination import Contamination
from theta_ml.corpus.shapes import corpus_shape
from theta_ml.corpus.sources import fingerprint
from theta_ml.corpus.unit import VERSIONS
from theta_ml.pretrained import find_model
from theta_ml.pretrained import fingerprint as fingerprint_of_model
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Local, StageFailed


@dataclass(frozen=True)
class Mixed:
    """A dataset of the catalog, as it was when the stage began."""

    id: str
    weight: float
    content: str
    """Fingerprint of what it gives."""


@dataclass(frozen=True)
class PrepareSpec:
    """What to make of the snapshot."""

    month: str
    """The run's month, the newest of the window."""
    preset: str = "tiny"
    """Sets the length of a row, and the vocabulary of a new tokenizer."""
    recipe: str = ""
    """Name of a recipe: what it says takes the place of these parameters, and of the name, as the stage begins."""
    champion: Champion | None = None
    """Whose tokenizer is kept; without one a tokenizer is trained on the corpus."""
    tokenizer: Literal["champion", "new", "base"] = "champion"
    """`new` trains one although there is a champion: its descendants then start from scratch; `base` takes that of the
    model that `base` names."""
    base: str = ""
    """A causal language model of others, a hub id or a folder, that training will start from."""
    window_months: int | None = None
    """Show only so many months, the newest of the snapshot; None: all."""
    datasets: str = "all"
    """Of the catalog, beside the landing zone: `all` that are enabled, `none`, or ids with commas between."""
    newest_weight: float = 2.0
    """How often an epoch shows the newest month, where older months stand beside it."""
    replay_weight: float = 1.0
    """How often it shows older months: 0.5 replays half of them."""
    liked_weight: float = 2.0
    """How often it shows conversations that people rated 4 or better, times the weights above."""
    disliked_weight: float = 0.0
    """How often those rated 2 or worse; 0 leaves them out."""
    user_share: float = 0.05
    """At most this share of the training conversations may be one user's."""
    benchmarks: Local = ""
    """Folder of benchmark items that must not be learned; where empty, `THETA_BENCHMARKS`, else none."""
    seed: int = 1
    """Draws rows for broken weights, and orders the epoch."""
    mixture: list[Mixed] = field(default_factory=list)
    """The datasets, filled in from the catalog when the stage begins."""
    landing_weight: float = 1.0
    """The catalog's weight of the landing zone; filled in likewise."""
    base_content: str = ""
    """Fingerprint of the base's tokenizer and configuration; filled in likewise."""
    items: str = ""
    """Fingerprint of the benchmark items; filled in likewise."""
    packing: str = ""
    """Fingerprint of the rules, versions and shape that units are packed by; filled in likewise, so that a corpus made
    by others is not found again."""

    def __post_init__(self) -> None:
        corpus_shape(self.preset)
        if (self.tokenizer == "base") != bool(self.base):
            raise ValueError(
                "base: `tokenizer=base` needs one, and only it: give a hub id or a folder, or leave both out"
            )
        if self.window_months is not None and self.window_months < 1:
            raise ValueError(f"window_months is {self.window_months}: choose at least 1, or leave it out for all")
        for name in ("newest_weight", "replay_weight", "liked_weight", "disliked_weight", "landing_weight"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is {getattr(self, name)}: choose 0 (never) to 100 (a hundred times an epoch)")
        if not 0 < self.user_share <= 1:
            raise ValueError(f"user_share is {self.user_share}: choose a share above 0, at most 1")


Spec = TypeVar("Spec", bound=PrepareSpec)


def resolve(spec: Spec, inputs: Inputs, settings: Settings, run_id: str) -> Spec:
    """Fills in what catalog, benchmarks' folder, base model and code hold now.

    Raises CatalogError, Missing and ModelMissing.
    """
    if spec.recipe:
        raise StageFailed("recipe: is read by the command, `theta stage prepare`; give the parameters themselves here")
    catalog = load_catalog(settings)
    mixture = [Mixed(each.id, each.weight, fingerprint(each, settings)) for each in _chosen(spec.datasets, catalog)]
    folder = spec.benchmarks or str(settings.benchmarks or "")
    items = Contamination.load(Path(folder)).fingerprint() if folder else ""
    landing = catalog.landing.weight
    packing = _packing(spec.preset)
    base = fingerprint_of_model(find_model(spec.base, settings, weights=False), weights=False) if spec.base else ""
    return replace(
        spec,
        mixture=mixture,
        landing_weight=landing,
        benchmarks=folder,
        base_content=base,
        items=items,
        packing=packing,
    )


def _packing(preset: str) -> str:
    identity = [VERSIONS, asdict(Rules()), asdict(corpus_shape(preset))]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _chosen(datasets: str, catalog: Catalog) -> list[Dataset]:
    if datasets in ("all", "none"):
        return list(catalog.mixture) if datasets == "all" else []
    wanted = [catalog.get(name) for name in dict.fromkeys(map(str.strip, datasets.split(",")))]
    if catalog.landing in wanted:
        raise CatalogError(
            "datasets: the landing zone is read anyway; `theta data add landing --weight 0` leaves it out"
        )
    return wanted
