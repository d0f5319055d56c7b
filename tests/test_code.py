"""Two installations that may make different things of the same inputs have different digests."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from theta_ml.cli import theta
from theta_ml.code import FOLDERS, NOT_OF_STAGES, ROOT, code_version, digest_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in FOLDERS:
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "inner" / "file.sql").write_text(f"SELECT '{folder}'")
    return tmp_path


def test_it_changes_with_every_file_that_counts(root: Path) -> None:
    seen = {digest_of(root)}
    for folder in FOLDERS:
        (root / folder / "inner" / "file.sql").write_text("SELECT 2")
        seen.add(digest_of(root))
    (root / "sql" / "inner" / "file.sql").rename(root / "sql" / "file.sql")
    seen.add(digest_of(root))
    (root / "theta_ml" / "empty.py").touch()
    seen.add(digest_of(root))
    assert len(seen) == len(FOLDERS) + 3


def test_it_does_not_change_with_what_an_interpreter_or_editor_leaves_or_with_its_place(root: Path) -> None:
    before = digest_of(root)
    (root / "theta_ml" / "__pycache__").mkdir()
    for left in ("theta_ml/__pycache__/a.cpython-311.pyc", "theta_ml/.a.py.swp", "theta_ml/a.py~", "README.md"):
        (root / left).write_text("left")
    assert digest_of(root) == before
    moved = root.rename(root.with_name("elsewhere"))
    assert digest_of(moved) == before


def test_it_does_not_change_with_rooms_that_no_stage_uses(root: Path) -> None:
    before = digest_of(root)
    for room in NOT_OF_STAGES:
        (root / "theta_ml" / room).mkdir()
        (root / "theta_ml" / room / "new.py").touch()
    assert digest_of(root) == before
    (root / "theta_ml" / "corpus").mkdir()
    (root / "theta_ml" / "corpus" / "bench").touch()
    assert digest_of(root) != before


def test_no_stage_imports_a_room_that_is_left_out() -> None:
    """Also not within a function, nor by a string such as that of `python -m`."""
    seen: set[Path] = set()
    waiting = [ROOT / "theta_ml" / "cli" / "stage.py"]
    while waiting:
        module = waiting.pop()
        if module not in seen and module.relative_to(ROOT).as_posix() != "theta_ml/cli/__init__.py":  # all commands
            seen.add(module)
            waiting += named_in(module)
    rooms = {path.relative_to(ROOT / "theta_ml").parts[0] for path in seen}
    assert {"training", "corpus", "registry", "quality", "store", "tuning", "settings.py"} <= rooms
    assert rooms.isdisjoint(NOT_OF_STAGES)
    assert all((ROOT / "theta_ml" / room / "__init__.py").is_file() for room in NOT_OF_STAGES)


def named_in(module: Path) -> Iterator[Path]:
    """Files of the package whose names stand in a module."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        else:
            names = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
        for name in names:
            if name.startswith("theta_ml"):
                stem = ROOT.joinpath(*name.partition(":")[0].split("."))
                yield from (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file())


def test_the_command_tells_it() -> None:
    told = CliRunner().invoke(theta, ["--version"])
    assert told.output == f"theta, version 0.1.0, code {digest_of(ROOT)}\n"
    assert code_version() == digest_of(ROOT)
