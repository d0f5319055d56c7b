"""Great Expectations' Data Docs, made to load nothing from elsewhere."""

import re
import shutil
from pathlib import Path

# Scripts, styles, fonts and pictures from the web, forms that write to it: pages of a run must not tell anybody that
# they are looked at, and must look the same on a machine that has no way out.
_FOREIGN = re.compile(
    r"<script\b[^>]*>.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<iframe\b[^>]*>.*?</iframe>|<form\b[^>]*>.*?</form>"
    r"|\s(?:src|href|action)=(?:\"https?://[^\"]*\"|'https?://[^']*')",
    re.DOTALL | re.IGNORECASE,
)
_STYLE = Path(__file__).parent / "templates" / "data_docs.css"


def make_self_contained(folder: Path) -> None:
    """Rewrites every page under `folder`."""
    style = f"<style>\n{_STYLE.read_text()}</style></head>"
    for page in folder.rglob("*.html"):
        html = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        page.write_text(html.replace("</head>", style, 1), encoding="utf-8")
    shutil.rmtree(folder / "static", ignore_errors=True)  # styles and fonts that went with what was taken out
