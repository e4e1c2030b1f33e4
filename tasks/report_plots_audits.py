"""The pictures of the audits: gaps against their margins, occupations, and bias beside utility."""

from typing import Any, NamedTuple

from tasks import report_words as words
from tasks.report_plots import FAINT, INK, MARGIN, MODEL, TWIN, WIDTH, Picture, dress, picture, plain_axes

MOST_OCCUPATIONS = 40
FARTHEST = 3.0
"""Margins beyond which an interval is cut off with an arrow: one wild audit must not flatten the others."""
LOOKS = {"PASS": (MARGIN, "o"), "FAIL": (TWIN, "s"), "INCONCLUSIVE": (MODEL, "D")}


def forest(name: str, audits: list[dict[str, Any]]) -> Picture | None:
    """Draw every estimate with its interval in units of its own margin, the band being the margin; None without one.

    Colour and marker tell the verdict; an interval that goes on beyond `FARTHEST` margins ends in an arrow.
    """
    rows = [audit for audit in audits if audit["estimate"] is not None and audit["margin"] > 0]
    if not rows:
        return None

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        axes.axvspan(-1, 1, color=MARGIN, alpha=0.18, linewidth=0)
        for edge in (-1, 1):
            axes.axvline(edge, color=MARGIN, linewidth=1)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for place, audit in enumerate(reversed(rows)):
            color, marker = LOOKS[audit["verdict"]]
            middle, low, high = (audit[key] / audit["margin"] for key in ("estimate", "low", "high"))
            ends = [max(low, -FARTHEST), min(high, FARTHEST)]
            axes.plot(ends, [place, place], color=color, linewidth=2.2)
            for end, cut, arrow in ((ends[0], low < -FARTHEST, "<"), (ends[1], high > FARTHEST, ">")):
                axes.plot([end], [place], color=color, linestyle="", marker=arrow if cut else "|", markersize=8)
            axes.plot([min(max(middle, -FARTHEST), FARTHEST)], [place], color=color, marker=marker, markersize=6)
        axes.set_yticks(range(len(rows)), [words.named(audit["audit"]) for audit in reversed(rows)], fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(-FARTHEST - 0.15, FARTHEST + 0.15)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("estimate and interval, in units of the audit's own margin; the band is the margin")

    said = "; ".join(
        f"{words.named(audit['audit'])} {audit['estimate']:.4f} [{audit['low']:.4f}, {audit['high']:.4f}], "
        f"margin {audit['margin']:g}, {audit['verdict']}"
        for audit in rows
    )
    return picture(f"Audits of {name}", f"Audits of {name}: {said}.", (WIDTH, 0.75 + 0.27 * len(rows)), draw)


def plane(name: str, mitigation: dict[str, Any]) -> Picture | None:
    """Draw bias and utility of a model with each mitigation: down and to the left is less bias; None without numbers.

    Bias is the first gating audit's estimate, as a size; utility the accuracy on the balanced test, or the score
    that the gate reads.
    """
    points = []
    for row in mitigation["rows"]:
        audit = next((audit for audit in row["audits"] if audit["estimate"] is not None), None)
        balanced = row["balanced_accuracy"]
        if audit is not None:
            points.append((row["method"], audit, balanced["value"] if balanced else row["score"]))
    if len(points) < 2:
        return None
    first = points[0][1]
    utility = "accuracy on the balanced test" if mitigation["rows"][0]["balanced_accuracy"] else mitigation["target"]

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        axes.axvline(first["margin"], color=MARGIN, linewidth=1)
        axes.axvspan(0, first["margin"], color=MARGIN, alpha=0.18, linewidth=0)
        for method, audit, value in points:
            kept = method == mitigation["kept"]
            axes.plot([abs(audit["estimate"])], [value], color=MODEL if kept else FAINT, marker="o", markersize=7)
            axes.annotate(
                words.named(method),
                (abs(audit["estimate"]), value),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=8.5,
                color=INK,
            )
        widest = 1.35 * max(first["margin"], *(abs(audit["estimate"]) for _, audit, _ in points))
        axes.set_xlim(-0.02 * widest, widest)
        axes.margins(y=0.25)
        axes.set_xlabel(
            f"size of {words.named(first['audit'])} ({first['metric'].replace('_', ' ')}); the band is the margin"
        )
        axes.set_ylabel(utility.replace("_", " "))

    said = "; ".join(f"{method} {abs(audit['estimate']):.4f} and {value:.4f}" for method, audit, value in points)
    return picture(f"Bias and utility of {name}", f"Bias and utility of {name}: {said}.", (WIDTH, 2.6), draw)


class Slope(NamedTuple):
    """What a slope goes from and to."""

    title: str
    before: str
    """The detail of an audit that holds the left end."""
    left: str
    """What the left end is, in words."""
    after: str
    """The detail that holds the right end."""


FROM_PARENT = Slope("Bias from parent to child", "parent", "the model it starts from", "child")
FROM_DATA = Slope("Gap from training rows to model", "data", "its training rows", "model")


def slopes(audits: list[tuple[str, dict[str, Any]]], slope: Slope = FROM_PARENT) -> Picture | None:
    """Draw how a bias changed, one line a model; None where no model was held against what it came from.

    Args: audits: registered name and result of every amplification audit.
    """
    lines = [(name, audit) for name, audit in audits if audit["details"].get(slope.after)]
    if not lines:
        return None

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        for name, audit in lines:
            color, marker = LOOKS[audit["verdict"]]
            ends = [audit["details"][side] for side in (slope.before, slope.after)]
            for place, end in enumerate(ends):
                axes.plot([place, place], [end["low"], end["high"]], color=color, linewidth=1, alpha=0.5)
            axes.plot([0, 1], [end["estimate"] for end in ends], color=color, marker=marker, markersize=5)
            axes.annotate(
                name, (1, ends[1]["estimate"]), xytext=(9, -3), textcoords="offset points", fontsize=8.5, color=INK
            )
        axes.set_xticks([0, 1], [slope.left, "the model"])
        axes.set_xlim(-0.15, 1.6)
        axes.set_ylabel(lines[0][1]["metric"].removesuffix("_amplification").replace("_", " "))

    said = "; ".join(
        "{} from {:.4f} to {:.4f}".format(
            name, *(audit["details"][side]["estimate"] for side in (slope.before, slope.after))
        )
        for name, audit in lines
    )
    return picture(slope.title, f"{slope.title}: {said}.", (WIDTH, 2.4), draw)


def occupations(name: str, audit: dict[str, Any]) -> Picture | None:
    """Draw P(he) of every occupation, one panel a half; None where the audit has no such table.

    Of a half larger than `MOST_OCCUPATIONS`, those farthest from .5 are drawn.
    """
    rows = audit["details"].get("by_occupation") or []
    halves = [(half, found) for half in ("he", "she", "other") if (found := _farthest(rows, half))]
    if not halves:
        return None
    tallest = max(len(found) for _, found in halves)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(halves), sharex=True, squeeze=False)[0]
        looks = {"he": (MODEL, "o"), "she": (TWIN, "s"), "other": (FAINT, "D")}
        for axes, (half, found) in zip(panels, halves, strict=True):
            dress(axes)
            color, marker = looks[half]
            places = range(tallest - len(found), tallest)
            values = [row["p_he"] for row in found]
            axes.hlines(list(places), 0.5, values, color=color, linewidth=1, alpha=0.6)
            axes.plot(values, list(places), color=color, linestyle="", marker=marker, markersize=4.5)
            axes.axvline(0.5, color=FAINT, linewidth=0.8)
            axes.set_yticks(list(places), [row["occupation"] for row in found], fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.7, tallest - 0.3)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x", color=FAINT, alpha=0.25, linewidth=0.6)
            # A stereotype in the lexicon's halves, planted in the starter's: expected in both.
            heading = "no side expected" if half == "other" else f"“{half}” expected"
            axes.set_title(heading, fontsize=9, color=INK, loc="left")
            axes.set_xlabel("P(he), probability")

    shown = "; ".join(
        f"{half} half mean {sum(row['p_he'] for row in rows if row['half'] == half) / _count(rows, half):.3f}"
        for half, _ in halves
    )
    cut = any(_count(rows, half) > len(found) for half, found in halves)
    title = f"P(he) by occupation, {name}" + (f" (the {MOST_OCCUPATIONS} farthest from 0.5)" if cut else "")
    return picture(title, f"P(he) after each occupation for {name}: {shown}.", (WIDTH, 0.9 + 0.16 * tallest), draw)


def _count(rows: list[dict[str, Any]], half: str) -> int:
    return sum(row["half"] == half for row in rows)


def _farthest(rows: list[dict[str, Any]], half: str) -> list[dict[str, Any]]:
    """Return the rows of a half to draw, in the order of their P(he)."""
    mine = [row for row in rows if row["half"] == half]
    kept = sorted(mine, key=lambda row: -abs(row["p_he"] - 0.5))[:MOST_OCCUPATIONS]
    return sorted(kept, key=lambda row: (row["p_he"], row["occupation"]))
