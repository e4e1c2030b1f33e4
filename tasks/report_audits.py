"""How audits and mitigations stand in the report: words, tables and pictures."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tasks import report_calibration
from tasks import report_words as words
from tasks.report_plots import Picture
from tasks.report_plots_audits import forest, occupations, plane

MOST_ROWS = 24
"""A longer table is cut, and says so."""
KNOWN = (
    *("items", "shown", "base_rates", "signed_shift", "shift", "by_word", "left_out", "child", "parent", "change"),
    *("calibration", "model", "data"),
)
"""Details that are for programs, or that the page shows in another way."""
INTERVAL = {"estimate", "low", "high"}


class Table(NamedTuple):
    """A table of an audit's details, its cells written as text."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


def arrange_audits(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the page shows of each audit of a model, those that the gate reads first."""
    name = model["registered_name"]
    order = sorted(model["audits"], key=lambda audit: audit["audit"] not in (model.get("gates") or ()))
    return [_audit_view(name, audit, audit["audit"] in (model.get("gates") or ())) for audit in order]


def overview(model: dict[str, Any]) -> Picture | None:
    """Return the forest plot of a model's audits; None where none gave an estimate."""
    return forest(model["registered_name"], model["audits"])


def mitigation_view(model: dict[str, Any]) -> dict[str, Any] | None:
    """Return the table and the picture of what mitigations did; None where none was tried."""
    found = model.get("mitigation")
    if not found:
        return None
    target = found["target"]
    audits = [audit["audit"] for audit in found["rows"][0]["audits"]]
    rows = []
    for row in found["rows"]:
        verdicts = {audit["audit"]: audit for audit in row["audits"]}
        rows.append(
            {
                "method": row["method"],
                "kept": row["method"] == found["kept"],
                "audits": [(words.audited(verdicts[name]), verdicts[name]["verdict"]) for name in audits],
                "score": words.score(target, row["score"]),
                "balanced": words.scored("accuracy", row["balanced_accuracy"]),
                "cost": row["cost"],
            }
        )
    return {"target": target, "audits": audits, "rows": rows, "picture": plane(model["registered_name"], found)}


def _audit_view(name: str, audit: dict[str, Any], gates: bool) -> dict[str, Any]:
    details, capability = audit["details"], audit.get("capability")
    rates = details.get("base_rates") or {}
    signed = details.get("signed_shift") or {}
    drawn = [occupations(name, audit)] if audit["audit"] == "occupation_pronoun" else [None]
    calibration = report_calibration.views(name, details.get("calibration") or {})
    drawn += [view.picture for view in calibration]
    asked = ""
    if capability:
        score, side = words.named(capability["name"]), "above" if capability["higher_is_better"] else "below"
        asked = f"{score} {capability['value']:.4f}, to be {side} {capability['floor']:.4f}"
    return {
        **{key: audit[key] for key in ("audit", "scorer", "verdict", "reason", "items", "clusters", "caveat")},
        "gates": gates,
        "pictures": [picture for picture in drawn if picture is not None],
        "calibration": calibration,
        "estimated": audit["estimate"] is not None,
        "mde": words.NONE if audit["mde"] is None else f"{audit['mde']:.4f}",
        "confidence": f"{100 * audit['confidence']:g} %",
        "capability": asked,
        "labels": list(rates["he"]["share"]) if rates else [],
        "base_rates": [
            (group, found["texts"], [words.percent(share) for share in found["share"].values()])
            for group, found in rates.items()
        ],
        "signed": [(label, f"{s['estimate']:+.4f} [{s['low']:+.4f}, {s['high']:+.4f}]") for label, s in signed.items()],
        "tables": list(_tables(audit, drawn[0] is not None)),
    }


def _tables(audit: dict[str, Any], drawn: bool) -> Iterator[Table]:
    """Yield a table for each list or mapping of records among an audit's details."""
    for key, value in audit["details"].items():
        if key not in KNOWN and not (drawn and key == "by_occupation"):
            yield from _walk(words.named(key), value)


def _walk(caption: str, value: Any) -> Iterator[Table]:
    """Yield the tables in a value, from the outside in: lists and mappings of records, however deep they lie."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        yield _table(caption, [(None, row) for row in value])
    elif isinstance(value, dict) and not _is_interval(value):
        rows = [row for row in value.values() if isinstance(row, dict) and any(map(_is_cell, row.values()))]
        if rows and len(rows) == len(value):
            yield _table(caption, list(value.items()))
        for name, inner in value.items():
            if isinstance(inner, dict | list) and not _is_cell(inner):
                nested = inner if inner not in rows or len(rows) < len(value) else _deeper(inner)
                yield from _walk(f"{caption}: {words.named(str(name))}", nested)


def _deeper(row: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record has no place in a cell."""
    return {name: inner for name, inner in row.items() if not _is_cell(inner)}


def _table(caption: str, records: list[tuple[str | None, dict[str, Any]]]) -> Table:
    columns = list(dict.fromkeys(name for _, row in records for name, cell in row.items() if _is_cell(cell)))
    rows = [
        [*([key] if key is not None else []), *(_cell(row.get(name)) for name in columns)]
        for key, row in records[:MOST_ROWS]
    ]
    cut = f" (the first {MOST_ROWS} of {len(records)})" if len(records) > MOST_ROWS else ""
    first = [""] if records[0][0] is not None else []
    return Table(caption + cut, [*first, *(words.named(name) for name in columns)], rows)


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= INTERVAL


def _is_cell(value: Any) -> bool:
    return not isinstance(value, dict | list) or _is_interval(value) or _is_numbers(value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 3 and all(isinstance(one, int | float) for one in value)


def _cell(value: Any) -> str:
    if value is None:
        return words.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    if isinstance(value, dict):
        return f"{_cell(value['estimate'])} [{_cell(value['low'])}, {_cell(value['high'])}]"
    return str(value)
