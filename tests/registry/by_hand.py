"""What people type, and three champions that they may type it about."""

from click.testing import CliRunner, Result

from tests.registry.pipeline import Pipeline
from theta_ml.cli import theta as command


def theta(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def three(pipeline: Pipeline) -> None:
    for number, quality in enumerate((3.0, 2.8, 2.6), 1):
        uris = pipeline.measured(f"2026-0{number}", f"run-{number}", f"model {number}", quality)
        decided = pipeline.decide(f"2026-0{number}", f"run-{number}", uris, bootstrap=True)
        pipeline.promote(f"2026-0{number}", f"run-{number}", uris, decided)
