"""A team's own file of settings, named by a variable: YAML, read the same way whatever it holds."""

from pathlib import Path
from typing import Any

import yaml

from theta_ml.settings import SettingsError


def read_team_file(variable: str, path: Path, example: str, where: str) -> dict[str, Any]:
    """What it maps. Raises SettingsError naming variable and file; `where` says what may stand in it."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{variable}: {path}: {error.strerror}; name a YAML file, or unset it") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{variable}: {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{variable}: {path}: give lines such as `{example}` ({where})")
    return found
