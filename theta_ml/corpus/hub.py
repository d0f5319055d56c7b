"""Public sets by their hub id, through the `datasets` library; or a folder that holds a copy of one.

A set is read at one commit: its key says which. What is fetched lies under `$THETA_HOME/cache/hub`, and is found there
again without a network. Nothing is told to anybody, and no code of the hub's is run.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from theta_ml.corpus.catalog import Dataset, Missing
from theta_ml.corpus.formats import PARSERS
from theta_ml.corpus.formats.conversation import Row
from theta_ml.corpus.formats.files import sha256
from theta_ml.corpus.formats.layouts import Records, rows
from theta_ml.settings import Settings

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_rows(dataset: Dataset, settings: Settings) -> Iterator[Row]:
    """The set's rows; `line` is the row's number. Raises Missing where it is neither reachable nor kept here."""
    return rows(_records(dataset, settings), PARSERS[dataset.format](dataset.columns))


def hub_content(dataset: Dataset, settings: Settings) -> list[list[str]]:
    """What tells this set from another: its commit, or the content of the copy's files."""
    copy = _copy(dataset)
    named = [["config", dataset.config or ""], ["split", dataset.split]]
    if copy is None:
        return [[str(dataset.hub), _commit(dataset, settings)], *named]
    if not copy.is_dir():
        raise _missing(dataset, FileNotFoundError(f"there is no folder {copy}"))
    found = sorted(path for path in copy.rglob("*") if path.is_file() and not path.name.startswith("."))
    return [[str(path.relative_to(copy)), sha256(path)] for path in found] + named


def _records(dataset: Dataset, settings: Settings) -> Records:
    copy = _copy(dataset)
    commit = None if copy else _commit(dataset, settings, last=True)
    try:
        builder = _library().load_dataset_builder(
            str(copy or dataset.hub), dataset.config, revision=commit, cache_dir=str(_cache(settings))
        )
        if commit and builder.hash != commit:  # without a network, the library takes the newest that is kept
            raise FileNotFoundError(f"commit {commit[:12]} is not kept here, only {str(builder.hash)[:12]}")
        if copy is not None or dataset.limit is not None:  # a copy needs no second one, a beginning no whole
            loaded = builder.as_streaming_dataset(dataset.split)
        else:
            builder.download_and_prepare()
            loaded = builder.as_dataset(dataset.split)
        yield from enumerate(loaded, 1)
    except _faults() as error:
        raise _missing(dataset, error) from None


def _faults() -> tuple[type[Exception], ...]:
    """What loading raises: the libraries' own kinds, and those of what they travel by and read with."""
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    return (DatasetsError, HfHubHTTPError, HTTPError, OSError, ValueError, TypeError)


def _missing(dataset: Dataset, error: Exception) -> Missing:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Missing(
        f"dataset {dataset.id}: the set {dataset.hub} ({dataset.config or 'its only config'}, split {dataset.split}) "
        f"cannot be loaded ({reason}); check its id and split, connect once so that it is kept under "
        f"$THETA_HOME/cache/hub, or leave it out with `theta data add {dataset.id} --disable`"
    )


def _copy(dataset: Dataset) -> Path | None:
    folder = Path(str(dataset.hub))
    return folder if folder.is_absolute() else None


def _commit(dataset: Dataset, settings: Settings, last: bool = False) -> str:
    """The commit that `revision` names now; with `last`, or without a network, the one it named when last asked.

    What is read after its fingerprint was taken is so what the fingerprint names.
    """
    if dataset.revision and _COMMIT.fullmatch(dataset.revision):
        return dataset.revision
    kept = _cache(settings) / "commits" / f"{dataset.hub}@{dataset.revision or 'main'}".replace("/", "--")
    if last and kept.exists():
        return kept.read_text()
    _library()
    from huggingface_hub import HfApi

    try:
        commit = str(HfApi().dataset_info(str(dataset.hub), revision=dataset.revision, timeout=20).sha)
    except _faults() as error:
        if kept.exists():
            return kept.read_text()
        raise _missing(dataset, error) from None
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(commit)
    return commit


def _cache(settings: Settings) -> Path:
    return settings.home / "cache" / "hub"


def _library() -> Any:
    """The library, with nothing sent home and no bars drawn."""
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "DO_NOT_TRACK": "1"}
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # it reads the variable as it is imported, which may have been before
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    return datasets
