"""Two installations that may make different things of the same inputs have different digests."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from theta_ml.cli import theta
from theta_ml.code import FOLDERS, ROOT, code_version, digest_of


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


def test_the_command_tells_it() -> None:
    told = CliRunner().invoke(theta, ["--version"])
    assert told.output == f"theta, version 0.1.0, code {digest_of(ROOT)}\n"
    assert code_version() == digest_of(ROOT)
