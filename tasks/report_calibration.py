"""How a classifier's calibration by group stands in the report: a picture, two tables, and what was left out."""

from typing import Any, NamedTuple

from tasks import report_words as words
from tasks.audits.statistics import wilson
from tasks.report_plots import FAINT, INK, MARGIN, MODEL, TWIN, WIDTH, Picture, picture, plain_axes

LOOKS = ((MODEL, "o", "-"), (TWIN, "s", "--"), (MARGIN, "D", "-."), (INK, "^", ":"))
"""Colour, marker and dash of a group; more groups than these are not drawn."""
JOINED = 10
"""Neighbouring bins of fewer texts are drawn as one: of a text or two the rate is 0 or 1, and a line would be wild."""
LARGEST = 240.0
"""Area of the mark of the fullest bin, in square points; the others' areas are in proportion."""


class View(NamedTuple):
    """The calibration of one label."""

    label: str
    columns: list[str]
    groups: list[list[str]]
    """One line a group."""
    bins: list[tuple[str, list[str]]]
    """Bin -> a cell for each of `compared`."""
    compared: list[str]
    """The groups that have a reliability table."""
    left_out: str
    """Says which groups are too small for one; empty where none is."""
    picture: Picture | None
    joined: int = JOINED


def views(name: str, found: dict[str, Any]) -> list[View]:
    """Return what the page shows of the calibration of each audited label (see `tasks.audits.group_calibration`)."""
    return [_view(name, label, one) for label, one in found.items()]


def _view(name: str, label: str, found: dict[str, Any]) -> View:
    columns = ["group", "texts", "mean P", "rate", "gap", "ECE", "ECE by chance"]
    edges = sorted({(row["low"], row["high"]) for rows in found["bins"].values() for row in rows})
    by_edge = {group: {(row["low"], row["high"]): row for row in rows} for group, rows in found["bins"].items()}
    few = [f"{group} ({row['texts']:,})" for group, row in found["groups"].items() if group not in found["bins"]]
    return View(
        label=label,
        columns=columns,
        groups=[_line(group, row) for group, row in found["groups"].items()],
        bins=[
            (f"{low:.2f} to {high:.2f}", [_cell(own.get((low, high))) for own in by_edge.values()])
            for low, high in edges
        ],
        compared=list(found["bins"]),
        left_out=f"Fewer than {found['min_items']} texts, so not compared: {words.listed(few)}." if few else "",
        picture=_drawn(name, label, found),
    )


def _line(group: str, row: dict[str, Any]) -> list[str]:
    if "ece" not in row:
        return [group, f"{row['texts']:,}", *[words.NONE] * 5]
    gap, ece = row["gap"], row["ece"]
    return [
        group,
        f"{row['texts']:,}",
        f"{row['mean_probability']:.3f}",
        f"{row['rate']:.3f}",
        "{} [{}, {}]".format(*(f"{round(gap[key], 3) + 0:+.3f}" for key in ("estimate", "low", "high"))),
        f"{ece['estimate']:.3f} [{ece['low']:.3f}, {ece['high']:.3f}]",
        f"{row['ece_by_chance']:.3f}",
    ]


def _cell(row: dict[str, Any] | None) -> str:
    return words.NONE if row is None else f"{row['n']:,}: {row['probability']:.2f} / {row['rate']:.2f}"


def _drawn(name: str, label: str, found: dict[str, Any]) -> Picture | None:
    """Draw a line a group over the bins of P(label), the diagonal perfect; None where no group has texts enough."""
    fullest = sorted(found["bins"], key=lambda group: -found["groups"][group]["texts"])[: len(LOOKS)]
    lines = {group: rows for group, rows in found["bins"].items() if group in fullest}
    if not lines:
        return None
    most = max(n for rows in lines.values() for _, _, n in _joined(rows))

    def draw(figure: Any) -> None:
        axes = plain_axes(figure)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="perfect")
        for (group, rows), (color, marker, dash) in zip(lines.items(), LOOKS, strict=False):
            x, y, n = (list(column) for column in zip(*_joined(rows), strict=True))
            ends = [wilson(rate * count, count) for rate, count in zip(y, n, strict=True)]
            axes.vlines(x, [end.low for end in ends], [end.high for end in ends], color=color, linewidth=1, alpha=0.5)
            axes.plot(x, y, color=color, linestyle=dash, linewidth=1.3)
            axes.plot([], [], color=color, linestyle=dash, marker=marker, label=f"{group}, {_texts(found, group)}")
            area = [max(6.0, LARGEST * count / most) for count in n]
            axes.scatter(x, y, s=area, color=color, marker=marker, alpha=0.75, linewidths=0, zorder=3)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"P({label}) by the model, mean of a bin (probability); a mark's area is its number of texts")
        axes.set_ylabel(f"texts that are {label}\n(share)")
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)

    said = "; ".join(
        f"{group}, {_texts(found, group)}: mean P {row['mean_probability']:.3f}, rate {row['rate']:.3f}, "
        f"ECE {row['ece']['estimate']:.3f}"
        for group in lines
        for row in [found["groups"][group]]
    )
    cut = f" (the {len(lines)} groups with most texts)" if len(lines) < len(found["bins"]) else ""
    title = f"Calibration of P({label}) by group, {name}{cut}"
    return picture(title, f"{title}: {said}.", (WIDTH, 3.6), draw)


def _joined(rows: list[dict[str, Any]]) -> list[tuple[float, float, int]]:
    """Return mean probability, rate and texts of the bins, from left to right joined to `JOINED` texts at least."""
    runs: list[list[dict[str, Any]]] = [[]]
    for row in rows:
        if sum(one["n"] for one in runs[-1]) >= JOINED:
            runs.append([])
        runs[-1].append(row)
    if len(runs) > 1 and sum(one["n"] for one in runs[-1]) < JOINED:
        runs[-2:] = [runs[-2] + runs[-1]]
    sizes = [sum(row["n"] for row in run) for run in runs]

    def mean(run: list[dict[str, Any]], key: str, size: int) -> float:
        return float(sum(row["n"] * row[key] for row in run)) / size

    return [(mean(run, "probability", n), mean(run, "rate", n), n) for run, n in zip(runs, sizes, strict=True)]


def _texts(found: dict[str, Any], group: str) -> str:
    return f"{found['groups'][group]['texts']:,} texts"
