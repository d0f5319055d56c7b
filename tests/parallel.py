"""How tests are shared among workers: a file's tests stay together, and all that need the session's stack are one's."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

REPOSITORY = Path(__file__).resolve().parent.parent
STACK, OWN_STACK = "stack", "own_stack"


class ByFile(LoadScopeScheduling):
    """As `--dist loadfile`, but with one scope for all files that are marked as in need of the session's stack."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return STACK if _needs_stack(file) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: (item.get_closest_marker(STACK) is None, item.get_closest_marker(OWN_STACK) is None))


@cache
def _needs_stack(file: str) -> bool:
    # Who shares out the tests knows their names alone, not their marks.
    return "pytest.mark.stack" in (REPOSITORY / file).read_text()
