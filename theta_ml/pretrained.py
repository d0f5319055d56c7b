"""Where a model of others lies: a folder, a copy under `$THETA_HOME/models`, Hugging Face's cache, or the hub.

Weights are read from safetensors only, and no code of the model's is ever run. Nothing is told to anybody.
"""

import hashlib
import json
import os
from pathlib import Path

from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model*.safetensors"
_DESCRIBED = [CONFIG, TOKENIZER]
_WEIGHED = [*_DESCRIBED, WEIGHTS, "model.safetensors.index.json", "generation_config.json"]
_CONTEXT = ("max_position_embeddings", "n_positions")


class ModelMissing(StageFailed):
    """A base model is not there, or not one that Theta reads; the message says where it was looked for."""


def find_model(name: str, settings: Settings, weights: bool = True) -> Path:
    """Folder of the model `name`, a hub id or an absolute path; `weights`: with them, not only its description.

    Local files come first; the hub is asked last, and not where HF_HUB_OFFLINE is set. Raises ModelMissing.
    """
    if name.startswith(("/", "~")):
        return _complete(Path(name).expanduser(), name, weights)
    own = models_folder(settings) / name
    if own.is_dir():
        return _complete(own, name, weights)
    kept = _snapshot(name, weights, local_files_only=True)
    if isinstance(kept, Path) and not _lacking(kept, weights):
        return kept
    fetched = _snapshot(name, weights, local_files_only=False)
    if isinstance(fetched, Path):
        return _complete(fetched, name, weights)
    raise ModelMissing(
        f"base model {name}: there is no folder {own}, nothing in Hugging Face's cache, and the hub was no help "
        f"({fetched}); copy its {', '.join([*_DESCRIBED, 'model.safetensors'])} into that folder, or set `base` in the "
        f"recipe to a folder that holds them"
    )


def models_folder(settings: Settings) -> Path:
    """Copies of the hub's models, as OWNER/NAME."""
    return settings.home / "models"


def fingerprint(folder: Path, weights: bool = True) -> str:
    """Tells a model from another, wherever it lies."""
    files = [folder / name for name in _DESCRIBED] + (sorted(folder.glob(WEIGHTS)) if weights else [])
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def context_of(folder: Path) -> int:
    """Most tokens that the model in `folder` reads at once. Raises ModelMissing where its configuration is silent."""
    config = json.loads((folder / CONFIG).read_text())
    found = [config[name] for name in _CONTEXT if isinstance(config.get(name), int)]
    if not found:
        raise ModelMissing(
            f"{folder / CONFIG} has no {' or '.join(_CONTEXT)}, so nobody knows how long a row may be: choose a base "
            f"model with positions, for example gpt2 or a llama"
        )
    return int(found[0])


def _complete(folder: Path, name: str, weights: bool) -> Path:
    if not folder.is_dir():
        raise ModelMissing(f"base model {name}: there is no folder {folder}; mend the recipe's `base`")
    if lacking := _lacking(folder, weights):
        raise ModelMissing(
            f"base model {name}: {folder} lacks {' and '.join(lacking)}; put it there (weights as safetensors: pickles "
            f"are never read), or choose another `base` in the recipe"
        )
    return folder


def _lacking(folder: Path, weights: bool) -> list[str]:
    wanted = _DESCRIBED + ([WEIGHTS] if weights else [])
    return [pattern for pattern in wanted if not any(folder.glob(pattern))]


def _snapshot(name: str, weights: bool, local_files_only: bool) -> Path | str:
    """The folder, or why there is none."""
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    from httpx2 import HTTPError
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    constants.HF_HUB_DISABLE_TELEMETRY = True  # it reads the variable as it is imported, which may have been before
    if constants.HF_HUB_OFFLINE and not local_files_only:
        return "HF_HUB_OFFLINE is set"
    patterns = _WEIGHED if weights else _DESCRIBED
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local_files_only))
    except (HFValidationError, HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
