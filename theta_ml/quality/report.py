"""Pages that hold everything they show: no script, no font, no picture from elsewhere."""

from pathlib import Path
from typing import Any

from theta_ml.landing.snapshot import Snapshot
from theta_ml.quality.suite import shown


def write_report(path: Path, report: Any, snapshot: Snapshot, reasons: dict[str, str]) -> None:
    """Writes a ValidationReport as a page; `reasons` says of each rule why what breaks it is set aside."""
    aside = snapshot.months[snapshot.month]["quarantined"]
    landed = snapshot.new_conversations + aside
    failed = [check for check in report.checks if not check.passed]
    passed = [check for check in report.checks if check.passed]
    render(
        path,
        "validation.html",
        report=report,
        failed=failed,
        passed=passed,
        rules=[(name, report.quarantined[name], reasons.get(name, "")) for name in _most_first(report.quarantined)],
        landed=landed,
        aside=aside,
        watermark=snapshot.watermark,
        shown=_shown,
        share=lambda count: shown(count / landed if landed else 0.0, "share"),
    )


def _most_first(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def write_note(path: Path, title: str, sentence: str) -> None:
    """A page for when there is only a sentence to show."""
    render(path, "note.html", title=title, sentence=sentence)


def render(path: Path, template: str, **values: Any) -> None:
    """Writes the template of this room, filled in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("theta_ml.quality"), autoescape=True, undefined=StrictUndefined)
    path.write_text(environment.get_template(template).render(**values), encoding="utf-8")


def _shown(observed: float | str | None, expected: str) -> str:
    """The observed value in the unit that its bound is written in."""
    if observed is None:
        return "–"
    return shown(observed, "share" if "%" in expected or expected == "none" else "number")
