"""The page of a comparison: rows, classes, slices and what the two were made with, in words and one picture."""

from pathlib import Path
from typing import Any

from tasks import report_words as words
from tasks.console import duration
from tasks.report_compare import chance, counted, section, signed
from tasks.report_lineage import LINEAGE
from tasks.report_pages import templates
from tasks.report_plots import FAINT, INK, MODEL, TWIN, WIDTH, Picture, picture, plain_axes
from tasks.report_view import MOST_CLASSES

Row = dict[str, Any]

PARTED = {"class": "true class", "length": "length of the input", "identity": "identity words"}
NAMES = {"recipe": "name of the recipe", "foundation": "name of the foundation"}
COSTS = {
    "flops": "training FLOPs",
    "seconds": "training time",
    "foundation_flops_share": "share of the foundation's FLOPs",
    "foundation_seconds_share": "share of its time",
}
ELSEWHERE = ("audit_verdicts",)
"""Facts that have a table of their own."""
SHOWN_DIGITS = 16
"""Characters of a digest that tell it apart; compare.json has them all."""
EXPLORED = 0.05
"""A slice below this share of false discoveries is pointed out."""


def write_page(found: Row, path: Path) -> None:
    """Write a comparison as one HTML file; the same comparison gives the same bytes."""
    text = templates("html").get_template("compare_page.html.jinja").render(comparison=arrange(found))
    path.write_text(text.strip() + "\n", encoding="utf-8")


def arrange(found: Row) -> Row:
    """Return what the page, the report's section and the terminal show; numbers are already written as text.

    Args:
        found: what ``tasks.compare.compare`` returns.
    """
    metric, confusions = found["by_item"], found["confusions"]
    return {
        "kind": found["kind"],
        **section(found),
        "by_item": metric,
        "outcomes": found["outcomes"] and counted(found["outcomes"]),
        "examples": [
            (side, count, [_example_view(row) for row in found["examples"][key]])
            for key, side, count in (
                ("wins", "A is better", found["outcomes"] and found["outcomes"]["wins"]),
                ("losses", "B is better", found["outcomes"] and found["outcomes"]["losses"]),
            )
            if found["examples"][key]
        ],
        "confusions": confusions and _confusions_view(confusions),
        "slices": [_slice_view(metric, row) for row in found["slices"]],
        "forest": _forest(metric, found["slices"]),
        "lineage": _lineage_view(found["configuration"]["lineage"]),
        "settings": [(name, *(_setting(value) for value in pair)) for name, pair in _settings(found)],
        "audits": [(row["audit"], _audit_view(row["a"]), _audit_view(row["b"])) for row in found["audits"]],
    }


def _example_view(row: Row) -> Row:
    return {
        "id": row["id"],
        "asked": row["asked"],
        "answers": [
            [[value, None]] if isinstance(value, str) else value
            for value in (row["answers"].get(who, "") for who in ("truth", "a", "b"))
        ],
    }


def _confusions_view(found: Row) -> Row:
    """Return how often each class was answered with each, A less B; of many classes the largest changes."""
    labels = found["labels"]
    pairs = [
        (one[j], other[j], one[j] - other[j], labels[i], labels[j])
        for i, (one, other) in enumerate(zip(found["a"], found["b"], strict=True))
        for j in range(len(labels))
    ]
    rows = [(label, pairs[i * len(labels) : (i + 1) * len(labels)]) for i, label in enumerate(labels)]
    if len(labels) <= MOST_CLASSES:
        return {"labels": labels, "rows": rows, "most": []}
    most = sorted((pair for pair in pairs if pair[2]), key=lambda pair: (-abs(pair[2]), pair[3:]))
    return {"labels": labels, "rows": [], "most": most[:MOST_CLASSES]}


def _slice_view(metric: str, row: Row) -> Row:
    return {
        "by": PARTED[row["by"]],
        "slice": row["slice"],
        "items": row["items"],
        "a": words.score(metric, row["a"]),
        "b": words.score(metric, row["b"]),
        "difference": signed(metric, {"value": row["difference"], "low": row["low"], "high": row["high"]}),
        "counts": f"{row['wins']:,} / {row['losses']:,} / {row['ties']:,}",
        "q": chance(row["q_value"], "q"),
        "found": row["q_value"] < EXPLORED,
    }


def _forest(metric: str, rows: list[Row]) -> Picture | None:
    """Draw the difference on each slice with its interval; None without slices."""
    if not rows:
        return None
    scale = 100 if metric in words.PERCENT else 1
    unit = "percentage points" if scale == 100 else "in its own unit"

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for place, row in enumerate(reversed(rows)):
            found = row["q_value"] < EXPLORED
            color, marker = (TWIN, "s") if found else (MODEL, "o")
            ends = [scale * row["low"], scale * row["high"]]
            axes.plot(ends, [place, place], color=color, linewidth=2.2, marker="|", markersize=8)
            axes.plot([scale * row["difference"]], [place], color=color, marker=marker, markersize=6)
        names = [f"{row['slice']} ({row['items']:,})" for row in reversed(rows)]
        axes.set_yticks(range(len(rows)), names, fontsize=8.5, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{words.named(metric)} of A less that of B ({unit}), 95 % intervals")

    said = "; ".join(f"{row['slice']} {_slice_view(metric, row)['difference']}" for row in rows)
    title = f"Difference in {words.named(metric)} by slice"
    return picture(title, f"{title}: {said}.", (WIDTH, 0.75 + 0.27 * len(rows)), draw)


def _lineage_view(found: dict[str, list[str | None]]) -> list[tuple[str, str, str, bool]]:
    """Return the facts in the order from the source to the verdict: words, A's, B's, whether they are the same."""
    order = {**NAMES, **LINEAGE, **COSTS}
    names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
    rows = []
    for name in (name for name in names if name not in ELSEWHERE and set(found[name]) - {None, "None"}):
        one, other = (_fact(name, value) for value in found[name])
        rows.append((order.get(name, words.named(name)), one, other, found[name][0] == found[name][1]))
    return rows


def _fact(name: str, value: str | None) -> str:
    if value in (None, "None"):
        return words.NONE
    text = str(value)
    if name.endswith("digest") or name in ("commit", "data_dvc"):
        return text[:SHOWN_DIGITS]
    if "flops" in name:
        return words.flops(float(text))
    if "seconds" in name:
        return duration(float(text))
    return text


def _settings(found: Row) -> list[tuple[str, list[Any]]]:
    return sorted(found["configuration"]["settings"].items())


def _setting(value: Any) -> str:
    return words.NONE if value is None else str(value)


def _audit_view(audit: Row | None) -> Row | None:
    """Return an audit's numbers and verdict; None where it was not made."""
    if audit is None:
        return None
    return {"verdict": audit["verdict"], "numbers": words.audited(audit), "margin": words.margin(audit)}
