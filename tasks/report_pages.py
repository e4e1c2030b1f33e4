"""The report for people, as Markdown and as one HTML file."""

from pathlib import Path
from typing import Any


def write_pages(content: dict[str, Any], out: Path) -> None:
    (out / "report.md").write_text("# Report\n")
