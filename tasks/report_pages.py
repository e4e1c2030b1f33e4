"""The report for people, as Markdown and as one HTML file that needs no network and no script."""

import base64
import re
import shlex
from pathlib import Path
from typing import Any

from tasks import report_words as words
from tasks.console import duration
from tasks.report_view import arrange

LONGEST = 300
"""Characters of a data text in a table; the rest is cut off with an ellipsis."""


def write_pages(content: dict[str, Any], out: Path) -> None:
    """Write ``report.md`` and ``report.html`` into ``out``; the same content gives the same bytes.

    Args:
        content: what ``tasks.report.gather`` returns. Every text in it is escaped for its page.
    """
    page = arrange(content)
    for ending in ("md", "html"):
        text = templates(ending).get_template(f"report_pages.{ending}.jinja").render(page)
        text = re.sub(r"\n{3,}", "\n\n", text.strip()) if ending == "md" else text.strip()
        (out / f"report.{ending}").write_text(text + "\n", encoding="utf-8")


def escape_markdown(text: str) -> str:
    """Return ``text`` as one line that Markdown shows as it is, also in a table's cell.

    >>> escape_markdown("a|b <script> *c* macro_f1")
    'a\\\\|b &lt;script&gt; \\\\*c\\\\* macro_f1'
    """
    line = re.sub(r"\s+", " ", text)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*~|])", r"\\\1", line).replace("](", "]\\(")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)


def markdown_code(text: str) -> str:
    """Return ``text`` as a code span of one line, whatever backticks it holds; not for a table's cell.

    >>> markdown_code("a `b` |c|")
    '``a `b` |c|``'
    """
    line = re.sub(r"\s", " ", text)
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    around = " " if line[:1] in ("`", " ") or line[-1:] in ("`", " ") else ""
    return f"{fence}{around}{line}{around}{fence}" if line.strip() else ""


def templates(ending: str) -> Any:
    """Return the template environment; what a template writes is escaped unless it is marked as markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def escaped(value: Any) -> Any:
        return value if isinstance(value, Markup) else Markup(escape_markdown(str(value)))

    mark = Markup if ending == "md" else str  # inside a fence of code Markdown knows no escapes
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escaped if ending == "md" else None,
    )
    environment.filters |= {
        "code": lambda text: Markup(markdown_code(str(text))),
        "data_uri": lambda png: Markup(f"data:image/png;base64,{base64.b64encode(png).decode()}"),
        "svg": Markup,
        "named": words.named,
        "percent": words.percent,
        "flops": words.flops,
        "bytes": words.size,
        "number": lambda value: words.NONE if value is None else f"{value:,}",
        "figures": words.figures,
        "seconds": duration,
        "word": lambda text: mark(shlex.quote(" ".join(str(text).split()))),
        "clip": lambda text: (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") or "(empty)",
    }
    return environment
