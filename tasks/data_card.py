"""A data card: where a data set comes from, what was done to it, and what is known of it, in the hub's format.

T. Gebru et al., Datasheets for Datasets, 2021; the front matter is that of a README.md of a Hugging Face data set.
"""

from typing import TYPE_CHECKING, Any

from tasks import report_words as words
from tasks.audit_table import AUDITS
from tasks.recipe import FOUNDATION, Recipe
from tasks.report_pages import templates
from tasks.report_view import PREPARED
from tasks.sources import FIELDS, SPLITS, Source

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard

TASKS = {
    "classification": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "instruction": "text-generation",
    "preference": "text-generation",
}
"""Kind of rows -> the task as the hub names it; text is for a foundation, whose objective says."""


def data_card(recipe: Recipe, name: str, digest: str, content: dict[str, Any]) -> "DatasetCard":
    """Return the card of a data set of the recipe; what is not known is left out.

    Args:
        digest: the content digest of the prepared rows.
        content: what ``tasks.report.gather`` returns.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    dataset = recipe.data.datasets[name]
    rows = content["data"]["prepared"]["datasets"][name]["rows_out"]
    total = sum(rows.values())
    data = DatasetCardData(
        pretty_name=f"{recipe.name} {name}",
        language=dataset.languages or None,
        license=dataset.licence or None,
        size_categories=[_size(total)],
        task_categories=[_task(recipe, dataset.kind)],
        tags=["alma"],
    )
    body = templates("md").get_template("data_card.md.jinja").render(_view(recipe, name, digest, content, rows))
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n")


def sources(recipe: Recipe, name: str) -> list[tuple[str, str]]:
    """Return (split, where its rows come from) of a data set, as the recipe says it."""
    dataset = recipe.data.datasets[name]
    return [(split, _said(source, recipe)) for split in SPLITS for source in getattr(dataset, split)]


def changes(name: str, content: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what prepare counted in a data set, in words, where it found any."""
    counts = content["data"]["prepared"]["datasets"][name]
    return [(said, counts[key]) for key, said in PREPARED.items() if counts.get(key)]


def _view(recipe: Recipe, name: str, digest: str, content: dict[str, Any], rows: dict[str, int]) -> dict[str, Any]:
    dataset, prepare, data = recipe.data.datasets[name], recipe.prepare, content["data"]
    text = dataset.kind == "text"
    return {
        "name": name,
        "recipe": recipe.name,
        "dataset": dataset,
        "fields": FIELDS[dataset.kind],
        "sources": sources(recipe, name),
        "ingested": list(data["ingested"].get(name, {}).items()),
        "changes": changes(name, content),
        "rows": [(split, rows[split]) for split in SPLITS if split in rows],
        "cut": [split for split in SPLITS[1:] if name in data["ingested"] and split not in data["ingested"][name]],
        "prepare": prepare,
        "text": text,
        "held_out": [
            (held.partition("/")[2], found)
            for held, found in data["prepared"]["contamination"].items()
            if held.partition("/")[0] == name
        ],
        "audits": [(model, _shown(audit)) for model, audit in _audits(recipe, name, content)],
        "used": [content["models"][model]["registered_name"] for model in _users(recipe, name, content)],
        "digest": digest,
        "data_dvc": data.get("data_dvc"),
    }


def _task(recipe: Recipe, kind: str) -> str:
    if kind == "text":
        return "text-generation" if recipe.pretrain.family == "causal" else "fill-mask"
    return TASKS[kind]


def _size(rows: int) -> str:
    """Return the hub's name for a number of rows."""
    edges = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
    more = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))
    return next((said for edge, said in (*edges, *more) if rows < edge), "10B<n<100B")


def _said(source: Source, recipe: Recipe) -> str:
    match source.kind:
        case "starter":
            seed = recipe.data.starter.seed
            return f"generated: table {source.table} of the starter's invented town, seed {seed}"
        case "hub":
            config = f", configuration {source.config_name}" if source.config_name else ""
            return f"{source.dataset} of the hub{config}, split {source.split}, commit {source.revision}"
    return f"files: {', '.join(source.paths)}"


def _users(recipe: Recipe, name: str, content: dict[str, Any]) -> list[str]:
    """Return the models that learnt from a data set itself."""
    return [model for model in content["models"] if name in learnt_from(recipe, model)]


def learnt_from(recipe: Recipe, model: str) -> list[str]:
    """Return the data sets that a model itself was trained on, not those of the models that it starts from."""
    if model != FOUNDATION:
        return [recipe.specialists[model].data]
    return [*(["corpus"] if recipe.pretrain.train else []), *([recipe.adapt.data] if recipe.adapt else [])]


def _audits(recipe: Recipe, name: str, content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (model, audit) of the audits that read the training rows of a data set, each finding once."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for model, facts in content["models"].items():
        own = "corpus" if model == FOUNDATION else recipe.specialists[model].data
        of_rows = [audit.section for audit in AUDITS[facts["kind"]] if audit.rows == "train"]
        for audit in facts["audits"] if own == name else ():
            if audit["audit"] in of_rows:
                found.setdefault(f"{audit['audit']} {audit['reason']}", (facts["registered_name"], audit))
    return list(found.values())


def _shown(audit: dict[str, Any]) -> dict[str, Any]:
    """Return an audit of rows in words, with the mentions or the labels of each group where it counted them."""
    details = audit["details"]
    mentions = [
        (axis, group, found["mentions"], found["per_1000_words"], found["share"])
        for axis, groups in details.get("axes", {}).items()
        for group, found in groups.items()
    ]
    counted = details.get("groups", {}) if audit["audit"] == "label_association" else {}
    return {
        **{key: audit[key] for key in ("audit", "verdict", "reason", "caveat")},
        "numbers": words.audited(audit),
        "margin": words.margin(audit),
        "mentions": [row for row in mentions if row[2]],
        "never": [f"{words.named(group)} ({words.named(axis)})" for axis, group, count, _, _ in mentions if not count],
        "labels": list(details["labels"]) if counted else [],
        "groups": [(group, found["rows"], found["share"]) for group, found in counted.items()],
    }
