"""The report's pictures: drawn once, as SVG that takes the page's colours and as PNG for Markdown.

The same content gives the same bytes: no date, a fixed salt for the ids, no state outside a drawing. The
colours of the two models are blue and vermilion of the palette by Okabe and Ito (Color Universal Design,
2008), which stay apart under the common colour blindnesses; dash and marker tell them apart without colour.
"""

import html
import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

INK, FAINT, MODEL, TWIN, MARGIN = "#22262b", "#8b929c", "#0072b2", "#d55e00", "#009e73"
VARIABLES = {INK: "--ink", FAINT: "--faint", MODEL: "--model", TWIN: "--twin", MARGIN: "--margin"}
"""Colour in the drawing -> the page's variable that replaces it in the SVG."""
WIDTH = 7.2
MOST_OCCUPATIONS = 40
GENERAL = "valid/general_loss"
"""The spool's key of the loss on general text while a foundation is adapted to a domain."""

Draw = Callable[[Any], None]
Points = list[list[float]]


class Picture(NamedTuple):
    """One drawing in both forms, with what it says in words."""

    title: str
    alt: str
    svg: str
    """A whole <svg> element, its texts escaped; colours by CSS variables."""
    png: bytes
    """On white, since Markdown pages give no background to rely on."""


LOSSES = {
    "foundation": "cross-entropy\n(nats per token)",
    "masked_foundation": "cross-entropy\n(nats per hidden token)",
    "classification": "cross-entropy\n(nats per example)",
    "token_classification": "cross-entropy\n(nats per word)",
    "question_answering": "cross-entropy\n(nats per boundary)",
    "instruction": "cross-entropy\n(nats per token)",
    "preference": "DPO loss\n(nats per pair)",
    "reward": "Bradley-Terry loss\n(nats per pair)",
    "rlhf": "policy loss\n(reward)",
}
"""Kind -> what its loss is, with the unit."""


def loss_curves(model: dict[str, Any], *, before: bool = False) -> Picture | None:
    """Draw training and validation loss over the steps, with the twin from scratch; None without points.

    An adapted foundation has the loss on the general text beside that on its domain's; `before` draws its training
    before the adaptation.
    """
    curves = model.get("pretrained_curve" if before else "curve") or {}
    twin = {} if before else model.get("control_curve") or {}
    adapted = bool(model.get("pretrained_curve")) and not before
    domain = "domain, " if adapted else ""
    lines = [
        (label, color, marker, points)
        for label, color, marker, points in (
            (f"{domain}train", MODEL, "", curves.get("train/loss")),
            (f"{domain}valid", MODEL, "o", curves.get("valid/loss")),
            ("general text, valid", MARGIN, "D", curves.get(GENERAL)),
            *(
                (f"from scratch, {label}", TWIN, marker, twin.get(f"{label}/loss"))
                for label, marker in (("train", ""), ("valid", "s"))
            ),
        )
        if points
    ]
    if not lines:
        return None
    unit = LOSSES[model["kind"]]

    def draw(figure: Any) -> None:
        axes = _axes(figure)
        for label, color, marker, points in lines:
            steps, values = zip(*points, strict=True)
            style = {"marker": marker, "markersize": 4, "linewidth": 1.8} if marker else {"linewidth": 1.0}
            line = "--" if marker else "-"
            axes.plot(steps, values, label=label, color=color, linestyle=line, **style)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel(unit)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9, labelcolor=INK)

    name = f"{model['registered_name']}{' before the adaptation' if before else ''}"
    ends = "; ".join(f"{label} ends at {points[-1][1]:.3g}" for label, _, _, points in lines)
    alt = f"Loss curves of {name}, {' '.join(unit.split())}: {ends}."
    return _picture(f"Loss of {name}", alt, (WIDTH, 2.7), draw)


def audit_interval(name: str, audit: dict[str, Any]) -> Picture | None:
    """Draw an audit's estimate and interval against its margin; None where it gave no estimate."""
    if audit["estimate"] is None:
        return None
    estimate, low, high, margin = (audit[key] for key in ("estimate", "low", "high", "margin"))
    two_sided = audit["metric"] == "probability_gap"
    unit = "difference of P(he)" if two_sided else "share of texts"
    metric = audit["metric"].replace("_", " ")

    def draw(figure: Any) -> None:
        axes = _axes(figure)
        axes.axvspan(-margin if two_sided else 0, margin, color=MARGIN, alpha=0.18, linewidth=0)
        for edge in (-margin, margin) if two_sided else (margin,):
            axes.axvline(edge, color=MARGIN, linewidth=1)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.plot([low, high], [0, 0], color=MODEL, linewidth=2.4)
        axes.plot([low, high], [0, 0], color=MODEL, linestyle="", marker="|", markersize=9)
        axes.plot([estimate], [0], color=MODEL, marker="o", markersize=7)
        widest = 1.25 * max(abs(low), abs(high), margin)
        axes.set_xlim(-widest if two_sided else -0.05 * widest, widest)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{metric} ({unit}); the band is the margin")

    alt = f"The {metric} of {name} is {estimate:.4f}, interval {low:.4f} to {high:.4f}, margin {margin:g}."
    return _picture(f"{metric.capitalize()} of {name}", alt, (WIDTH, 1.15), draw)


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
            _dress(axes)
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
    return _picture(title, f"P(he) after each occupation for {name}: {shown}.", (WIDTH, 0.9 + 0.16 * tallest), draw)


def _count(rows: list[dict[str, Any]], half: str) -> int:
    return sum(row["half"] == half for row in rows)


def _farthest(rows: list[dict[str, Any]], half: str) -> list[dict[str, Any]]:
    """Return the rows of a half to draw, in the order of their P(he)."""
    mine = [row for row in rows if row["half"] == half]
    kept = sorted(mine, key=lambda row: -abs(row["p_he"] - 0.5))[:MOST_OCCUPATIONS]
    return sorted(kept, key=lambda row: (row["p_he"], row["occupation"]))


def _axes(figure: Any) -> Any:
    axes = figure.subplots()
    _dress(axes)
    return axes


def _dress(axes: Any) -> None:
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, color=FAINT)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _picture(title: str, alt: str, size: tuple[float, float], draw: Draw) -> Picture:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "font.family": "sans-serif",
        "font.size": 9.5,
        "svg.fonttype": "none",  # texts stay texts: small, selectable, in the page's font
        "svg.hashsalt": title,  # ids differ between the pictures of a page and never between two runs
        "text.parse_math": False,  # labels come from data: a dollar sign is a dollar sign
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        vector, pixels = io.StringIO(), io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(vector, format="svg", transparent=True, metadata=nothing)
        figure.savefig(pixels, format="png", dpi=100, facecolor="white", metadata={"Software": None})
    return Picture(title, alt, _inline(vector.getvalue(), alt), pixels.getvalue())


def _inline(document: str, alt: str) -> str:
    """Turn a whole SVG document into an element for a page: no prologue, page colours, an accessible name."""
    drawing = document[document.index("<svg") :]
    opening, inner = drawing.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None, "matplotlib gives every SVG a viewBox"
    inner = re.sub(r"<!--.*?-->\s*", "", inner, flags=re.DOTALL)
    # Nothing refers to a group's id, and the same ones stand in every drawing.
    inner = re.sub(r'<g id="[^"]*">', "<g>", inner)
    inner = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", inner)
    for color, variable in VARIABLES.items():
        inner = re.sub(rf"(fill|stroke): {color}", rf"\1: var({variable})", inner)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} '
        f'role="img" aria-label="{html.escape(alt)}">{inner.strip()}'
    )
