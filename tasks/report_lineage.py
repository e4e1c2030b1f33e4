"""The report's lineage: one graph from the corpus to the specialists, and what each version carries."""

from collections import Counter
from typing import Any

from tasks import report_words as words
from tasks.lineage import SHORT
from tasks.report_plots import FAINT, INK, MARGIN, MODEL, TWIN, WIDTH, Picture, picture

LINEAGE = {
    "recipe_digest": "recipe",
    "config_digest": "training configuration",
    "commit": "commit",
    "data_dvc": "data.dvc",
    "corpus_digest": "corpus",
    "own_data_digest": "own data",
    "tokenizer_digest": "tokenizer",
    "base": "base",
    "base_revision": "the base's commit",
    "base_digest": "the base's files",
    "foundation_version": "foundation version",
    "foundation_weights_digest": "foundation weights",
    "pretrained_weights_digest": "weights before the adaptation",
    "domain_data_digest": "domain's text",
    "start": "started from",
    "start_version": "its version",
    "start_weights_digest": "its weights",
    "reward": "reward model",
    "reward_version": "its version",
    "reward_weights_digest": "its weights",
    "mitigation": "mitigation",
    "adapter": "adapter",
    "weights_digest": "weights",
    "assessment_digest": "assessment",
    "audit_digest": "audit",
    "audit_verdicts": "verdicts",
    "seed": "seed",
}
"""Lineage fields in the order from the source to the verdict -> words."""

DECISIONS = {"promoted": (MARGIN, "o"), "challenger": (MODEL, "D"), "refused": (TWIN, "s")}
VERDICTS = {"PASS": MARGIN, "INCONCLUSIVE": MODEL, "FAIL": TWIN, "REFUSED": INK}
ROW, STEP = 0.4, 0.26
"""Inches from row to row, and from a model to those that start from it."""
AUDITS_AT, DECISION_AT = 4.95, 6.35
LONGEST = 40
"""Characters of a name; a longer one is cut in its middle."""


def lineage_view(model: dict[str, Any]) -> dict[str, Any]:
    """Return what the report says of where a version comes from."""
    lineage = model["lineage"]
    return {
        "name": model["registered_name"],
        "version": model["version"],
        "run_id": model["run_id"],
        "parent": lineage.get("start", lineage.get("foundation")),
        "parent_version": lineage.get("start_version", lineage.get("foundation_version")),
        "scored": "reward" in lineage,
        "rows": [(said, lineage[key]) for key, said in LINEAGE.items() if lineage.get(key) not in (None, "")],
    }


def lineage_graph(recipe: str, models: list[dict[str, Any]]) -> Picture:
    """Draw what leads to each model from top to bottom, a row each, those that start from it below and to its right.

    Marker and word tell the decision, words the verdicts; a dashed line leads from a reward model to what it scored.
    """
    rows = _rows(models)
    places = {row["name"]: place for place, row in enumerate(rows)}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axis("off")
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(len(rows) - 0.45, -0.95)
        for where, said in ((AUDITS_AT, "audits"), (DECISION_AT, "decision")):
            axes.text(where, -0.7, said, color=INK, fontsize=8, va="center")
        for place, row in enumerate(rows):
            x = _x(row["depth"])
            above = places.get(row["parent"])
            if above is not None:
                _join(axes, _x(rows[above]["depth"]), above, x, place)
            if row["scored_by"] in places:
                _join(axes, x - 0.72 * STEP, places[row["scored_by"]], x, place, color=TWIN, linestyle=(0, (2, 1.5)))
            _draw_row(axes, row, x, place)

    said = "; ".join(_told(row) for row in rows)
    size = (WIDTH, ROW * (len(rows) + 0.5))
    return picture(f"Lineage of {recipe}", f"Lineage of {recipe}: {said}.", size, draw)


def _rows(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is drawn, from the corpus down: texts and tokenizer, the foundation, and all below it."""
    root = models[0]["lineage"]
    pinned = f"data.dvc {_short(root.get('data_dvc'))}"
    rows = [_row("corpus", f"{_short(root.get('corpus_digest'))} · {pinned}", "", 0)]
    rows.append(_row("tokenizer", _short(root.get("tokenizer_digest")), "corpus", 1))
    if root.get("base"):
        rows.append(_row(f"base {root['base']}", _short(root.get("base_digest")), "", 1))
    if root.get("domain_data_digest"):
        rows.append(_row("domain's text", _short(root["domain_data_digest"]), "", 1))
    names = {model["registered_name"] for model in models}

    def hang(model: dict[str, Any], parent: str, depth: int) -> None:
        rows.append(_model_row(model, parent, depth))
        for other in models[1:]:
            above = other["lineage"].get("start", other["lineage"].get("foundation"))
            if (above if above in names else models[0]["registered_name"]) == model["registered_name"]:
                hang(other, model["registered_name"], depth + 1)

    hang(models[0], "tokenizer", 2)
    return rows


def _row(name: str, digests: str, parent: str, depth: int) -> dict[str, Any]:
    return {
        "name": name, "title": name, "digests": digests, "parent": parent, "depth": depth,
        "verdicts": {}, "decision": "", "scored_by": "",
    }  # fmt: skip


def _model_row(model: dict[str, Any], parent: str, depth: int) -> dict[str, Any]:
    lineage = model["lineage"]
    parts = [f"weights {_short(lineage.get('weights_digest'))}"]
    if "foundation" in lineage:
        parts.append(f"own data {_short(lineage.get('own_data_digest'))}")
    if lineage.get("mitigation"):
        parts.append(words.named(lineage["mitigation"]))
    row = _row(model["registered_name"], " · ".join(parts), parent, depth)
    return row | {
        "title": f"{_cut(model['registered_name'])} version {model['version']}",
        "verdicts": Counter(audit["verdict"] for audit in model["audits"]),
        "decision": words.standing({**model["decision"], "promoted": model["decision"]["promote"]}),
        "scored_by": lineage.get("reward", ""),
    }


def _draw_row(axes: Any, row: dict[str, Any], x: float, place: int) -> None:
    color, marker = DECISIONS.get(row["decision"], (FAINT, "h"))
    axes.plot([x], [place], color=color, marker=marker, markersize=7, linestyle="")
    weight = "bold" if row["decision"] else "normal"
    axes.text(x + 0.13, place - 0.17, row["title"], color=INK, fontsize=9, weight=weight, va="center")
    axes.text(x + 0.13, place + 0.2, row["digests"], color=INK, fontsize=7.5, alpha=0.75, va="center")
    known = [(verdict, count) for verdict in VERDICTS if (count := row["verdicts"].get(verdict))]
    for line, (verdict, count) in enumerate(known):
        y = place + 0.3 * (line - (len(known) - 1) / 2)
        axes.text(AUDITS_AT, y, f"{count} {verdict}", color=VERDICTS[verdict], fontsize=7.5, va="center")
    if row["decision"] and not known:
        axes.text(AUDITS_AT, place, "none made", color=INK, fontsize=7.5, alpha=0.75, va="center")
    axes.text(DECISION_AT, place, row["decision"], color=color, fontsize=9, weight="bold", va="center")


def _join(axes: Any, x: float, above: int, to: float, place: int, color: str = FAINT, linestyle: Any = "-") -> None:
    """Draw a line that goes down from one row and turns to the marker of another."""
    axes.plot(
        [x, x, to - 0.09], [above + 0.22, place, place], color=color, linestyle=linestyle, linewidth=1.2, zorder=0
    )
    axes.plot([to - 0.1], [place], color=color, marker=">", markersize=4, linestyle="", zorder=0)


def _x(depth: int) -> float:
    return 0.12 + STEP * depth


def _told(row: dict[str, Any]) -> str:
    start = f" from {row['parent']}" if row["parent"] else ""
    scored = f", scored by {row['scored_by']}" if row["scored_by"] else ""
    audits = ", ".join(f"{count} {verdict}" for verdict, count in sorted(row["verdicts"].items()))
    found = f", audits {audits or 'none'}, {row['decision']}" if row["decision"] else ""
    return f"{row['title']}{start} ({row['digests']}){scored}{found}"


def _short(digest: str | None) -> str:
    return str(digest or "unknown")[:SHORT]


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"
