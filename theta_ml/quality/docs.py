"""Great Expectations' Data Docs, made to load nothing from elsewhere."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from theta_ml.quality.report import render

# Scripts, styles, fonts and pictures from the web, and what works by them alone: pages of a run must not tell anybody
# that they are looked at, and must look the same on a machine that has no way out.
_FOREIGN = re.compile(
    r"<script\b[^>]*>.*?</script>|<style\b[^>]*>.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<iframe\b[^>]*>.*?</iframe>"
    r"|<footer\b[^>]*>.*?</footer>|\s(?:src|href|action)=(?:\"https?://[^\"]*\"|'https?://[^']*')",
    re.DOTALL | re.IGNORECASE,
)
_STYLE = Path(__file__).parent / "templates" / "data_docs.css"


def make_self_contained(folder: Path, month: str) -> None:
    """Rewrites every page under `folder`, and the index, which its scripts filled."""
    style = f"<style>\n{_STYLE.read_text()}</style>\n</head>"
    pages = sorted(page for page in folder.rglob("*.html") if page.parent != folder)
    for page in pages:
        html = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        page.write_text(html.replace("</head>", style, 1), encoding="utf-8")
    render(folder / "index.html", "data_docs.html", month=month, suites=list(_suites(folder)))
    shutil.rmtree(folder / "static", ignore_errors=True)  # styles and fonts that went with what was taken out


def _suites(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, page of results, page of expectations; `validations/SUITE/…/PAGE.html` and `expectations/SUITE.html`."""
    for page in sorted((folder / "validations").rglob("*.html")):
        result = page.relative_to(folder)
        yield result.parts[1], result, Path("expectations", f"{result.parts[1]}.html")
