"""The report's content, arranged in the order of the page, with the pictures drawn."""

from itertools import groupby
from typing import Any

from tasks import report_words as words
from tasks.report_audits import arrange_audits, mitigation_view, overview
from tasks.report_compare import section
from tasks.report_contamination import contamination_view
from tasks.report_cost import cost_view
from tasks.report_guard import guard_view
from tasks.report_lineage import lineage_graph, lineage_view
from tasks.report_plots import Picture, loss_curves
from tasks.report_plots_audits import FROM_DATA, FROM_PARENT, slopes
from tasks.report_transfer import arrange_worth

MARKDOWN_PICTURES = 400_000
"""Most bytes of pictures in the Markdown page, which Prefect keeps in its database; the HTML has them all."""
MOST_CLASSES = 12
"""A larger confusion matrix is shown as its most frequent confusions."""

PREPARED = {
    "rows_in": "rows read",
    "emails": "e-mail addresses replaced",
    "phones": "phone numbers replaced",
    "cut_documents": "documents cut into pieces",
    "dropped_empty": "dropped: empty",
    "dropped_span_lost": "dropped: answer lost in cleaning",
    "dropped_equal_pair": "dropped: chosen equals rejected",
    "dropped_too_short": "dropped: too short",
    "dropped_word_length": "dropped: odd word lengths",
    "dropped_few_letters": "dropped: too few letters",
    "dropped_symbols": "dropped: too many symbols",
    "dropped_bullets": "dropped: bullet points",
    "dropped_ellipses": "dropped: too many ellipses",
    "dropped_placeholder": "dropped: placeholder text",
    "dropped_repetition": "dropped: repetition",
    "exact_duplicates": "dropped: exact duplicates",
    "cross_split_duplicates": "dropped: stood in a held-out split too",
    "near_duplicates": "dropped: near duplicates",
    "label_conflicts": "of the duplicates, with another label",
    "contaminated": "dropped: overlap with a held-out item",
    "with_identity_words": "mitigation: training documents with identity words",
    "swapped": "of these, swapped (CDA)",
    "swaps_left_out": "not swapped: the swap overlaps with a held-out item",
}
"""Counts of the prepare step in the order of its work -> words; counts not named here are shown as they are."""


def arrange(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the templates show, in the order of the page; scores are already written as text.

    Args:
        content: what ``tasks.report.gather`` returns.
    """
    models = [_model_view(model) for model in content["models"].values()]
    grown = [(model["registered_name"], audit) for model in content["models"].values() for audit in model["audits"]]
    grown = [(name, audit) for name, audit in grown if audit["audit"].endswith("_amplification")]
    slope = [found for way in (FROM_PARENT, FROM_DATA) if (found := slopes(grown, way))]
    graph = lineage_graph(content["recipe"], list(content["models"].values()))
    guards = [view for model in content["models"].values() if (view := guard_view(model))]
    worth = arrange_worth(content.get("worth") or {})
    drawn = [*(worth["pictures"] if worth else []), *(picture for model in models for picture in _pictures(model))]
    pictures = [*slope, graph, *drawn, *(guard["picture"] for guard in guards)]
    told = sorted(content["models"].values(), key=lambda model: model["kind"] != "instruction")
    table = [_row_view(row, model) for row, model in zip(content["table"], content["models"].values(), strict=True)]
    return {
        "recipe": content["recipe"],
        "seed": content["seed"],
        "headline": words.headline(content["table"], content["failed"]),
        "failed": content["failed"],
        "findings": [said for model in told if (said := words.thesis(model))],
        "refusals": [(row["model"], why) for row in content["table"] if (why := _failures(row))],
        "table": table,
        "models": models,
        "guards": guards,
        "unguarded": [(guard["name"], *missing) for guard in guards for missing in guard["not_asked"]],
        "worth": worth,
        "slopes": slope,
        "fitting": _fitting([picture for picture in pictures if picture]),
        "data": _data_view(content["data"]),
        "contamination": contamination_view(content),
        "lineage_graph": graph,
        "lineage": [lineage_view(model) for model in content["models"].values()],
        "cost": cost_view(content),
        "serve": [row["model"] for row in content["table"] if row["alias"] == "champion"],
        "refused": [(row["model"], row["version"]) for row in content["table"] if words.standing(row) == "refused"],
    }


def _pictures(model: dict[str, Any]) -> list[Picture | None]:
    """Return the pictures of a model's section, in their order."""
    mitigation = model["mitigation"]
    shown = [*model["pictures"], model["forest"], mitigation and mitigation["picture"]]
    return [*shown, *(picture for audit in model["audits"] for picture in audit["pictures"])]


def _failures(row: dict[str, Any]) -> list[str]:
    return [reason.removeprefix("fail: ") for reason in row["reasons"] if reason.startswith("fail: ")]


def _row_view(row: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    metric, whole = row["metric"], model["scores"]
    return {
        **{key: row[key] for key in ("model", "kind", "metric", "version", "alias")},
        "score": words.scored(metric, whole["model"]["scores"].get(metric)),
        "baselines": [
            (name, words.scored(metric, whole.get(name, {}).get("scores", {}).get(metric) or {"value": value}))
            for name, value in row["baselines"].items()
        ],
        "audits": [
            {
                "name": audit["audit"],
                "verdict": audit["verdict"],
                "numbers": words.audited(audit),
                "margin": words.margin(audit),
            }
            for audit in model["audits"]
            if audit["audit"] in (model.get("gates") or ())
        ],
        "decision": words.standing(row),
        "reasons": [
            (mark, said) if said and mark in ("pass", "fail", "note") else ("note", reason)
            for reason in row["reasons"]
            for mark, _, said in [reason.partition(": ")]
        ],
    }


def _model_view(model: dict[str, Any]) -> dict[str, Any]:
    name, examples = model["registered_name"], model.get("examples") or []
    losses = [loss_curves(model), loss_curves(model, before=True)]
    metrics = list(model["scores"]["model"]["scores"])
    contenders = {**model["scores"], **{n: None for n in model["baselines"] if n not in model["scores"]}}
    training, whole = model["training"], model["scores"]["model"]
    return {
        "name": name,
        "kind": model["kind"],
        "pictures": [picture for picture in losses if picture],
        "metrics": metrics,
        "scores": [(who, [_cell(model, who, metric) for metric in metrics]) for who in contenders],
        "confusion": _confusion_view(whole),
        "by_type": list(whole["f1"].items()) if whole.get("f1") and not whole.get("confusion") else [],
        "audits": arrange_audits(model),
        "forest": overview(model),
        "mitigation": mitigation_view(model),
        "not_made": model.get("not_made") or [],
        "against": _against_view(model.get("against")),
        "training": training,
        "in_context": [prompted_view(row) for row in model.get("in_context") or []],
        "notes": [said for said in _notes(model) if said],
        "losses": [
            (split, found.get("first"), found.get("final"), found.get("best"))
            for split in ("train", "valid")
            if (found := training.get(f"{split}_loss"))
        ],
        "columns": list(examples[0]["answers"]) if examples else [],
        "asked": any(row["asked"] for row in examples),
        "examples": [
            (row["asked"], [(_runs(value), name in row["agree"]) for name, value in row["answers"].items()])
            for row in examples
        ],
        "mask": [
            (trained, [token for token, _ in run])
            for trained, run in groupby(training.get("loss_mask_example") or [], key=lambda pair: bool(pair[1]))
        ],
    }


def _notes(model: dict[str, Any]) -> list[str]:
    training = model["training"]
    return [words.trained_share(training), words.forgetting(training), words.calibration(model["scores"])]


def _against_view(against: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the comparison with the champion that stood before; None where none did."""
    return against and {**against, "found": against["found"] and section(against["found"])}


def prompted_view(row: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the in-context table: a task at a number of examples, beside the model before its tuning."""
    metric = row["metric"]
    change = words.NONE
    if row["change"] is not None:
        change = f"{row['change']:+.3f} [{row['change_low']:+.3f}, {row['change_high']:+.3f}]"
    return {
        **{key: row[key] for key in ("task", "shots", "metric", "n")},
        "score": words.scored(metric, {"value": row["score"], "low": row["low"], "high": row["high"]}),
        "chance": words.score(metric, row["chance"]),
        "before": words.score(metric, row["before"]),
        "change": change,
    }


def _runs(value: str | list[list[str | None]]) -> list[list[str | None]]:
    """Return an answer as pieces of text, each with the entity that it is, if it is one."""
    return [[value, None]] if isinstance(value, str) else value


def _cell(model: dict[str, Any], who: str, metric: str) -> str:
    found = model["scores"].get(who, {}).get("scores", {}).get(metric)
    value = model["baselines"].get(who, {}).get(metric)
    return words.scored(metric, found or ({"value": value} if value is not None else None))


def _confusion_view(scores: dict[str, Any]) -> dict[str, Any] | None:
    """Return the matrix with each cell's share of its row, or the largest confusions of many classes."""
    labels, matrix = scores.get("labels") or [], scores.get("confusion") or []
    if not matrix:
        return None
    if len(labels) > MOST_CLASSES:
        pairs = [(matrix[i][j], labels[i], labels[j]) for i in range(len(labels)) for j in range(len(labels)) if i != j]
        most = sorted((pair for pair in pairs if pair[0]), key=lambda pair: (-pair[0], pair[1:]))[:MOST_CLASSES]
        return {"labels": labels, "rows": None, "most": most}
    rows = [
        (label, [(count, count / max(sum(counts), 1)) for count in counts], scores.get("f1", {}).get(label))
        for label, counts in zip(labels, matrix, strict=True)
    ]
    return {"labels": labels, "rows": rows, "most": None}


def _fitting(pictures: list[Picture]) -> set[str]:
    """Return the titles of the pictures that fit into the Markdown page, first come, first kept."""
    kept, left = set(), MARKDOWN_PICTURES
    for picture in pictures:
        cost = 4 * len(picture.png) // 3 + 4
        if cost <= left:
            kept.add(picture.title)
            left -= cost
    return kept


def _data_view(data: dict[str, Any]) -> dict[str, Any]:
    prepared = data["prepared"]["datasets"]
    found = {key for counts in prepared.values() for key in counts if key != "rows_out"}
    keys = [*(key for key in PREPARED if key in found), *sorted(found - PREPARED.keys())]
    tokens = data["tokenizer"]
    return {
        "ingested": [(name, split, n) for name, splits in data["ingested"].items() for split, n in splits.items()],
        "datasets": list(prepared),
        "prepared": [(PREPARED.get(key, key), [counts.get(key) for counts in prepared.values()]) for key in keys],
        "rows_out": [
            (split, [counts["rows_out"].get(split) for counts in prepared.values()])
            for split in ("train", "valid", "test")
        ],
        "contamination": list(data["prepared"]["contamination"].items()),
        "tokenizer": tokens,
        "splits": [(split, tokens[split]) for split in ("train", "valid", "test") if split in tokens],
        "data_dvc": data.get("data_dvc"),
    }
