"""The suites of `expectations/`: Great Expectations' own JSON, which a team edits without touching code.

A bound is a number, or `{"$PARAMETER": name}` for one that the stage's parameters or the months before decide. Each
expectation's `meta` says how it should be read: `name`; `unit` of the observed value (count, number, share; without one
it is the share of rows that fail); `says`, the sentence where it fails. With `"quarantine": true` it is a rule as well:
a row that breaks it sets its conversation aside, for the `reason` given.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from theta_ml.stage import StageFailed

FOLDER = Path(__file__).parents[2] / "expectations"
SUITES = ("conversations", "messages")
"""What there is a row for: each has its suite, and its features in `sql/queries/SUITE_features.sql`."""


def read_suite(name: str) -> dict[str, Any]:
    """Raises StageFailed where `expectations/NAME.json` is missing or no suite."""
    path = FOLDER / f"{name}.json"
    try:
        suite: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StageFailed(f"cannot read the expectations in {path}: {error}") from None
    if not suite.get("expectations"):
        raise StageFailed(f"{path} holds no expectations: a month without any would pass unseen")
    return suite


def digest(*parts: Any) -> str:
    """Of anything that JSON can say."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
