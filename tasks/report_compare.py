"""Two versions of a model in short: the scores of both, and who is ahead."""

from typing import Any

from tasks import report_words as words

Row = dict[str, Any]

TESTS = {"mcnemar": "exact McNemar", "sign": "sign test"}


def section(found: Row) -> Row:
    """Return what the report and the page show first; numbers are already written as text.

    Args:
        found: what ``tasks.compare.compare`` returns.
    """
    return {
        "a": _named(found["a"]),
        "b": _named(found["b"]),
        "reference": [f"{found[side]['name']}/{found[side]['version']}" for side in ("a", "b")],
        "headline": headline(found["scores"]),
        "notes": found["notes"],
        "scores": [_score_view(row) for row in found["scores"]],
    }


def headline(scores: list[Row]) -> str:
    """Say in one sentence in which scores one of the two is shown to be better.

    >>> gap = {"value": 0.1, "low": 0.05, "high": 0.2}
    >>> headline([{"metric": "accuracy", "better": 1, "difference": gap}])
    'A is better in accuracy.'
    """
    measured = [row for row in scores if row["difference"] and row["better"]]
    if not measured:
        return "No difference can be given."
    ahead = {side: [words.named(row["metric"]) for row in measured if _ahead(row) == side] for side in "AB"}
    said = [f"{side} is better in {words.listed(names)}" for side, names in ahead.items() if names]
    return f"{'; '.join(said) or 'No difference is shown, since the interval of each holds 0'}."


def signed(metric: str, gap: Row) -> str:
    """Write a difference with its interval, shares in percentage points.

    >>> signed("accuracy", {"value": 0.015, "low": -0.01, "high": 0.04})
    '+1.5 points [-1.0, +4.0]'
    """
    low, high = gap["low"], gap["high"]
    if metric in words.PERCENT:
        return f"{100 * gap['value']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    digits = 1 if metric in ("bleu", "chrf") else 4
    return f"{gap['value']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def counted(row: Row) -> str:
    """Write how often A was better, worse and equal, with the test of it."""
    return (
        f"A better on {row['wins']:,}, B on {row['losses']:,}, equal on {row['ties']:,}; {TESTS[row['test']]} "
        f"{chance(row['p_value'])}"
    )


def chance(value: float, name: str = "p") -> str:
    """Write a p value, or a q value."""
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {value:.3f}"


def _named(side: Row) -> str:
    aliases = "".join(f", {alias}" for alias in side["aliases"])
    return f"{side['name']} version {side['version']}{aliases}"


def _ahead(row: Row) -> str:
    """Return who is better in a score, A or B; empty where its interval holds 0, or more is not better."""
    gap, sign = row["difference"], row["better"]
    if gap is None or not sign or gap["low"] <= 0 <= gap["high"]:
        return ""
    return "A" if sign * gap["value"] > 0 else "B"


def _score_view(row: Row) -> Row:
    metric, gap = row["metric"], row["difference"]
    return {
        "metric": metric,
        "a": words.scored(metric, row["a"]),
        "b": words.scored(metric, row["b"]),
        "difference": signed(metric, gap) if gap else words.NONE,
        "paired": bool(gap and gap["paired"]),
        "ahead": _ahead(row),
        "items": counted(row["items"]) if row["items"] else words.NONE,
    }
